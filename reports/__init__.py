"""Tables made from what runs stored; nothing here touches a model."""
