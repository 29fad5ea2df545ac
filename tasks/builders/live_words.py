"""Wordings of the live dialogues: topics with their values, ways to say, apply and ask, and small talk."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """Something a user sets once and may correct.

    kind: rule or preference. set: ways to state it. fix: ways to correct it. need: requests that call for it,
    without naming it. reply: how the assistant then applies it. ask: ways to ask for it. In each but `need`,
    which leave it out, and `ask`, {value} is the value. values: one or two words each.
    """

    kind: str
    values: tuple[str, ...]
    set: tuple[str, ...]
    fix: tuple[str, ...]
    need: tuple[str, ...]
    reply: str
    ask: tuple[str, ...]


_COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "white", "black")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

TOPICS = {
    "signature": Topic(
        "rule",
        ("cheers", "best wishes", "warmly", "yours truly", "kind regards", "take care", "many thanks"),
        (
            "From now on, close every email you draft for me with '{value}'.",
            "New rule for my emails: the last words are always '{value}'.",
            "Whenever you write a message in my name, end it on '{value}', please.",
        ),
        (
            "I changed my mind about the emails: they should end with '{value}' instead.",
            "Correction for the closing line of my messages, make it '{value}'.",
        ),
        ("Draft a short note to the landlord for me.", "Please write to my sister that I am late."),
        "Here is the draft; it closes with '{value}'.",
        (
            "With what words must an email written for the user close?",
            "How does the user want messages in their name to end?",
        ),
    ),
    "folder": Topic(
        "rule",
        _COLOURS,
        (
            "Any invoice I send you goes into the {value} folder, please remember.",
            "Let us agree that bills are always filed under {value}.",
            "Rule: when I hand you an invoice, put it in the {value} folder.",
        ),
        (
            "The invoices have moved: file them in the {value} folder now.",
            "No, wait, bills belong in the {value} folder from today.",
        ),
        ("Here is another invoice, please put it away.", "I have a bill from the plumber, file it."),
        "Done, it lies in the {value} folder.",
        (
            "In which colour of folder must the user's invoices be filed?",
            "A bill comes in for the user: what is the colour of the folder it goes into?",
        ),
    ),
    "codeword": Topic(
        "rule",
        ("lantern", "harbour", "pepper", "meadow", "copper", "thunder", "velvet", "willow"),
        (
            "If I ever ask for the status, begin your answer with the word {value}.",
            "When I say 'status', you say '{value}' first. That is our rule.",
            "Please open each status report with the word {value}.",
        ),
        (
            "Use {value} as the opening word of status reports instead.",
            "The word that opens a status report is {value} from here on.",
        ),
        ("Status, please.", "What is the status today?"),
        "{value}: everything is on schedule.",
        (
            "With which word must a status report to the user open?",
            "The user says 'status': what is the first word of the right reply?",
        ),
    ),
    "reminder": Topic(
        "rule",
        _DAYS,
        (
            "Remind me to water the plants every {value}.",
            "Each {value} I want a reminder about the plants.",
            "Make {value} the day on which you remind me of the watering.",
        ),
        (
            "Move the plant reminder to {value}, I am away otherwise.",
            "Watering day is {value} now, please change the reminder.",
        ),
        ("When will you nudge me about the plants again?", "Is the next watering planned?"),
        "Your next plant reminder comes on {value}.",
        (
            "On which day of the week is the user to be reminded of the plants?",
            "What is the weekday of the user's watering reminder?",
        ),
    ),
    "units": Topic(
        "rule",
        ("kilometres", "miles", "furlongs", "yards", "leagues", "steps"),
        (
            "Please give me every distance in {value}.",
            "As a rule, tell me how far things are in {value}.",
            "For distances I only want {value} from you.",
        ),
        (
            "Better to state distances in {value} after all.",
            "Switch the distances over to {value}, will you?",
        ),
        ("How far is the lake from here?", "Is it a long way to the airport?"),
        "I worked that out in {value} for you.",
        (
            "In which unit must distances be told to the user?",
            "The user asks how far the station is: in which unit is the reply?",
        ),
    ),
    "milk": Topic(
        "preference",
        ("oat milk", "soy milk", "almond milk", "whole milk", "coconut milk", "hazelnut milk", "rice milk"),
        (
            "I take my coffee with {value}, by the way.",
            "For what it is worth, {value} is what I like in coffee.",
            "My coffee is only good with {value}.",
        ),
        (
            "Actually, I have gone off that: it is {value} in my coffee now.",
            "I was wrong before, put {value} into my coffee.",
        ),
        ("Order me a coffee for the meeting.", "Could you get the usual coffee for me?"),
        "One coffee with {value} is on its way.",
        (
            "What does the user take in coffee?",
            "A coffee is ordered for the user: which milk goes into it?",
        ),
    ),
    "seat": Topic(
        "preference",
        ("window", "corridor", "middle", "front", "rear", "top deck"),
        (
            "On trains I like to have a {value} seat.",
            "When I travel, a {value} seat suits me best.",
            "I am a {value} seat person, so keep that in mind.",
        ),
        (
            "These days I would rather sit in a {value} seat.",
            "Sorry, I meant that a {value} seat is right for me.",
        ),
        ("Book the morning train for me.", "I need a ticket to the coast."),
        "Booked, with a {value} seat.",
        (
            "Which kind of seat does the user want on a train?",
            "A ticket is bought for the user: where should the seat be?",
        ),
    ),
    "music": Topic(
        "preference",
        ("jazz", "opera", "folk", "techno", "blues", "reggae", "country", "swing"),
        (
            "While I cook I enjoy {value} most.",
            "The right music for my kitchen is {value}.",
            "Cooking goes best with {value}, I find.",
        ),
        (
            "I am tired of that music; play {value} in the kitchen from now on.",
            "Make it {value} when I cook, not what I said before.",
        ),
        ("I am about to cook, put something on.", "Some music for the kitchen, please."),
        "Playing {value} in the kitchen.",
        (
            "What music does the user want while cooking?",
            "The user starts to cook: which kind of music should be played?",
        ),
    ),
    "gift": Topic(
        "preference",
        ("tulips", "roses", "lilies", "daisies", "orchids", "violets", "peonies", "irises"),
        (
            "My mother loves {value}, so that is what she gets.",
            "For my mother it is always {value}.",
            "If flowers go to my mother, they must be {value}.",
        ),
        (
            "My mother told me she prefers {value} now.",
            "It turns out that my mother likes {value}, not the others.",
        ),
        ("Send my mother some flowers.", "It is my mother's birthday, arrange the bouquet."),
        "A bunch of {value} goes to your mother.",
        (
            "Which flowers are right for the user's mother?",
            "A bouquet is to be sent to the user's mother: which flowers are in it?",
        ),
    ),
    "room": Topic(
        "preference",
        tuple(f"{number} degrees" for number in range(16, 24)),
        (
            "I sleep well at {value} in the bedroom.",
            "Keep my bedroom at {value} for the night.",
            "The bedroom should have {value} when I go to bed.",
        ),
        (
            "That was too much, the bedroom needs {value}.",
            "Set {value} for my bedroom instead, I slept badly.",
        ),
        ("I am off to bed, set up the bedroom.", "Get the bedroom ready for the night."),
        "The bedroom is set to {value}.",
        (
            "At what temperature should the user's bedroom be at night?",
            "The user goes to bed: to how many degrees is the bedroom set?",
        ),
    ),
}

CHAT = (
    ("How was the weather at your end?", "I have no weather here, but I hope yours is fine."),
    ("I finally finished that long novel.", "Congratulations, that took patience."),
    ("Do you know a good word for 'tired'?", "You could say weary."),
    ("The neighbours are renovating again.", "That must be loud."),
    ("I ran five rounds in the park.", "Well done, that is a good habit."),
    ("What is seven times eight?", "It is fifty-six."),
    ("My bicycle has a flat tyre.", "A patch kit should do for that."),
    ("The market was crowded this morning.", "Mornings are busy there."),
    ("I lost my umbrella on the bus.", "The lost property office may have it."),
    ("We are painting the fence this week.", "I hope it stays dry for you."),
    ("Tell me something cheerful.", "Otters hold hands while they sleep."),
    ("The lift is out of order again.", "The stairs are good exercise, at least."),
    ("My cousin is learning to sail.", "That sounds like an adventure."),
    ("I cannot find my glasses.", "Have you looked on your head?"),
    ("The bakery has a new owner.", "I hope the bread is as good as before."),
    ("Lunch was rather salty today.", "A glass of water may help."),
)

THANKS = (
    "Noted.",
    "Understood, I will keep to that.",
    "Of course.",
    "Thank you for telling me.",
    "All right, I will do so.",
)
