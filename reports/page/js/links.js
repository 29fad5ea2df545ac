// From a row of a table to its samples.

const FILTERS = ["method", "window", "category", "source"]; // headings of tables that are filters of the list

function link(figure) {
  const table = figure.querySelector("table");
  const headings = [...table.tHead.rows[0].cells].map(label);
  if (!headings.includes("method") || !headings.includes("window")) return;
  const known = new Set(index.settings.map((_, at) => `${nameOf(at)}\n${windowOf(at)}`));
  const named = (row) => FILTERS.map((name) => row.cells[headings.indexOf(name)]?.textContent ?? "");
  const rows = [...table.tBodies[0].rows].map((row) => [row, named(row)]);
  if (!rows.some(([, [method, window]]) => known.has(`${method}\n${window}`))) return;
  table.tHead.rows[0].append(el("th", { scope: "col", class: "link" }, "samples"));
  for (const [row, values] of rows) {
    const cell = el("td", { class: "link" });
    if (known.has(`${values[0]}\n${values[1]}`)) {
      cell.append(button("list", () => listOnly(values), { "aria-label": `list samples: ${values.filter(Boolean).join(", ")}` }));
    }
    row.append(cell);
  }
}

function listOnly(values) {
  form.reset();
  FILTERS.forEach((name, at) => {
    fields[name].value = values[at];
  });
  update();
  document.getElementById("samples").scrollIntoView();
  list.querySelector("button.open")?.focus({ preventScroll: true });
}

for (const figure of document.querySelectorAll("figure.table")) link(figure);
