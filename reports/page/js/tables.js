// Tables: a scrolling box with headers that sort, a filter over words, and one for each column of few texts.

const CHOICES = 60; // distinct texts of a column up to which it gets a filter of its own
const collator = new Intl.Collator("en", { numeric: true });

function enhance(figure) {
  const table = figure.querySelector("table");
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const title = table.caption.textContent;
  const box = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title });
  const tools = el("div", { class: "tools fields", role: "search", "aria-label": title });
  const told = el("span", { role: "status", class: "quiet" });
  table.before(tools, box);
  box.append(table);
  heads.forEach((head, place) => sortable(head, place, heads, rows, table.tBodies[0]));
  const words = el("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const selects = heads.map((head, place) => columnFilter(head, place, rows));
  const apply = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const kept =
        wanted.every((word) => text.includes(word)) &&
        selects.every((select, place) => !select?.value || row.cells[place].textContent === select.value);
      row.hidden = !kept;
      shown += kept;
    }
    told.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
  };
  selects.forEach((select, place) => {
    if (select) tools.append(el("label", {}, `${label(heads[place])} `, select));
  });
  tools.append(el("label", {}, "words in a row ", words), told);
  tools.addEventListener("input", apply);
  apply();
}

function label(head) {
  return head.dataset.heading;
}

function sortable(head, place, heads, rows, body) {
  const text = head.textContent;
  head.dataset.heading = text;
  head.setAttribute("aria-sort", "none");
  const numeric = head.classList.contains("number");
  const sort = button(text, () => {
    const orders = numeric ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
    const order = orders[(orders.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", order);
    body.append(...(order === "none" ? rows : sorted(rows, place, numeric, order === "descending" ? -1 : 1)));
  });
  head.replaceChildren(sort);
}

// Rows in order of a column; cells without a value stay last whichever way.
function sorted(rows, place, numeric, sign) {
  const keyed = rows.map((row) => [row.cells[place].dataset.value, row]);
  const compare = numeric ? (a, b) => Number(a) - Number(b) : collator.compare;
  return keyed
    .sort(([a], [b]) => {
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      return sign * compare(a, b);
    })
    .map(([, row]) => row);
}

function columnFilter(head, place, rows) {
  if (head.classList.contains("number")) return null;
  const values = [...new Set(rows.map((row) => row.cells[place].textContent))];
  if (values.length < 2 || values.length > CHOICES) return null;
  return fill(el("select", {}), [["", "all"], ...values.sort(collator.compare).map((value) => [value, value])]);
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => el("option", { value }, visible(text))));
  return select;
}

for (const figure of document.querySelectorAll("figure.table")) enhance(figure);
