// All is defined: fill the sample browser and show it, where there are samples.

if (samples.total > 0) {
  fillFilters();
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("browser").hidden = false;
  update();
  openFromAddress();
  addEventListener("hashchange", openFromAddress);
}
