// The list of samples: filters, two settings compared, pages, keys.

const PAGE = 50;
const EVEN = 1e-9; // scores nearer than this are the same
const ANSWER = 80; // characters of an answer in the list

const form = document.getElementById("filters");
const fields = form.elements;
const list = document.getElementById("list");
const pager = document.querySelector(".pager");
const manyRuns = index.runs.length > 1;
const haystacks = questions.id.map((id, at) => `${id} ${questions.title[at]} ${questions.targets[at]}`.toLowerCase());

let found = []; // what the list shows: arrays of one sample, or of two to the same question
let page = 0;

const FLIPS = [
  ["differ", "whose scores differ"],
  ["a", "A better than B"],
  ["b", "B better than A"],
  ["same", "of equal score"],
  ["all", "all in common"],
];

const nameOf = (setting) => index.settings[setting][1];
const windowOf = (setting) => index.settings[setting][2];
const runOf = (setting) => index.runs[index.settings[setting][0]];
const wholeName = (setting) => index.settings[setting][3];

function fillFilters() {
  const settings = index.settings.map((_, at) => at);
  const distinct = (values) => [["", "all"], ...[...new Set(values)].map((value) => [String(value), String(value)])];
  fill(fields.method, distinct(settings.map(nameOf)));
  fill(fields.window, distinct(settings.map(windowOf).sort(collator.compare)));
  fill(fields.run, distinct(index.runs));
  const failures = index.statuses.filter((status) => status !== "ok");
  fill(fields.outcome, distinct(["right", "wrong", "partly right", ...failures]));
  fill(fields.category, distinct([...index.categories].sort(collator.compare)));
  fill(fields.source, distinct([...index.sources].sort(collator.compare)));
  fill(fields.seed, distinct([...new Set(questions.seed)].sort((a, b) => a - b)));
  const pools = index.pools.map(([name], at) => [String(at), name]);
  fill(fields.a, pools);
  fill(fields.b, pools);
  fill(fields.flip, FLIPS);
  const [a, b] = firstPair();
  fields.a.value = a;
  fields.b.value = b;
  fields.run.closest("label").hidden = !manyRuns;
  fields.seed.closest("label").hidden = new Set(questions.seed).size < 2;
}

// The last setting that is no control, of all runs together where they can be, and the backbone alone at its
// window, where there is one.
function firstPair() {
  const most = Math.max(...index.pools.map(([, members]) => members.length));
  const all = index.pools.map(([, members]) =>
    members.length === most ? [nameOf(members[0]), windowOf(members[0])] : ["", ""],
  );
  const a = Math.max(all.findLastIndex(([name]) => name && name !== "vanilla" && !name.endsWith("]")), 0);
  const b = all.findIndex(([name, window]) => name === "vanilla" && window === all[a][1]);
  return [a, b >= 0 ? b : a === 0 ? all.length - 1 : 0];
}

const mode = () => fields.mode.value;

// One for each question that passes the filters over questions.
function questionMask() {
  const category = fields.category.value ? index.categories.indexOf(fields.category.value) : -1;
  const source = fields.source.value ? index.sources.indexOf(fields.source.value) : -1;
  const seed = fields.seed.value;
  const words = fields.words.value.toLowerCase().split(/\s+/).filter(Boolean);
  return Uint8Array.from(questions.id, (_, at) =>
    Number(
      (category < 0 || questions.category[at] === category) &&
        (source < 0 || questions.source[at] === source) &&
        (!seed || String(questions.seed[at]) === seed) &&
        words.every((word) => haystacks[at].includes(word)),
    ),
  );
}

function settingMask() {
  const [method, window, run] = [fields.method.value, fields.window.value, fields.run.value];
  return Uint8Array.from(index.settings, (_, at) =>
    Number((!method || nameOf(at) === method) && (!window || windowOf(at) === window) && (!run || runOf(at) === run)),
  );
}

function outcomeTest() {
  const wanted = fields.outcome.value;
  const status = index.statuses.indexOf(wanted);
  if (wanted === "") return () => true;
  if (wanted === "right") return (at) => samples.score[at] >= 1 - EVEN;
  if (wanted === "wrong") return (at) => samples.score[at] <= EVEN;
  if (wanted === "partly right") return (at) => samples.score[at] > EVEN && samples.score[at] < 1 - EVEN;
  return (at) => samples.status[at] === status;
}

function everySample() {
  const [asked, settings, test] = [questionMask(), settingMask(), outcomeTest()];
  const kept = [];
  for (let at = 0; at < samples.total; at += 1) {
    if (asked[samples.question[at]] && settings[samples.setting[at]] && test(at)) kept.push([at]);
  }
  return { kept, told: `${count(kept.length)} of ${count(samples.total)} samples` };
}

// The sample of each question in a pool, -1 for none.
function answersIn(pool) {
  const members = new Set(index.pools[pool][1]);
  const own = new Int32Array(questions.id.length).fill(-1);
  for (let at = 0; at < samples.total; at += 1) {
    if (members.has(samples.setting[at])) own[samples.question[at]] = at;
  }
  return own;
}

function pairs() {
  const [asked, left, right] = [questionMask(), answersIn(fields.a.value), answersIn(fields.b.value)];
  const groups = { a: [], b: [], same: [], differ: [], all: [] };
  asked.forEach((kept, question) => {
    const pair = [left[question], right[question]];
    if (!kept || pair[0] < 0 || pair[1] < 0) return;
    const difference = samples.score[pair[0]] - samples.score[pair[1]];
    groups.all.push(pair);
    if (Math.abs(difference) <= EVEN) groups.same.push(pair);
    else {
      groups.differ.push(pair);
      groups[difference > 0 ? "a" : "b"].push(pair);
    }
  });
  const kept = groups[fields.flip.value];
  const told =
    `${count(groups.all.length)} questions in common: A is better on ${count(groups.a.length)}, ` +
    `B on ${count(groups.b.length)}, equal on ${count(groups.same.length)}; ${count(kept.length)} listed`;
  return { kept, told };
}

function update() {
  for (const part of form.querySelectorAll("[data-mode]")) part.hidden = part.dataset.mode !== mode();
  const result = mode() === "all" ? everySample() : pairs();
  found = result.kept;
  page = 0;
  document.getElementById("count").textContent = result.told;
  showPage();
}

const lastPage = () => Math.max(Math.ceil(found.length / PAGE) - 1, 0);

function showPage() {
  const first = page * PAGE;
  const shown = found.slice(first, first + PAGE);
  const heads =
    mode() === "all"
      ? ["question", "method", "window", ...(manyRuns ? ["run"] : []), "category", "score", "answer"]
      : ["question", "category", "accepted", "A", "answer of A", "B", "answer of B"];
  list.tHead.replaceChildren(el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head))));
  list.tBodies[0].replaceChildren(...shown.map((row, at) => listRow(row, first + at)));
  list.closest(".scroll").scrollTop = 0;
  document.getElementById("page").textContent = found.length
    ? `${count(first + 1)}–${count(first + shown.length)} of ${count(found.length)}`
    : "nothing matches";
  const steps = { first: 0, back: page - 1, on: page + 1, last: lastPage() };
  for (const control of pager.querySelectorAll("button")) {
    const target = steps[control.name];
    control.disabled = target < 0 || target > lastPage() || target === page;
    control.onclick = () => {
      page = target;
      showPage();
    };
  }
}

function listRow(row, position) {
  const question = samples.question[row[0]];
  const setting = samples.setting[row[0]];
  const open = button("", () => openSample(row, position), { class: "open" });
  put(open, start(questions.title[question], ANSWER) || questions.id[question]);
  const category = el("td", {}, visible(index.categories[questions.category[question]]));
  const cells =
    mode() === "all"
      ? [
          el("td", {}, visible(nameOf(setting))),
          el("td", {}, windowOf(setting)),
          manyRuns ? el("td", {}, visible(runOf(setting))) : null,
          category,
          el("td", {}, badge(row[0])),
          answerCell(row[0]),
        ]
      : [
          category,
          put(el("td", { dir: "auto" }), start(questions.targets[question], ANSWER)),
          ...row.flatMap((sample) => [el("td", {}, badge(sample)), answerCell(sample)]),
        ];
  const line = el("tr", {}, el("td", { dir: "auto" }, open), ...cells);
  line.addEventListener("click", (event) => {
    if (!event.target.closest("button")) openSample(row, position);
  });
  return line;
}

function badge(sample) {
  const [score, status] = [samples.score[sample], index.statuses[samples.status[sample]]];
  if (status !== "ok") return el("span", { class: "badge bad" }, visible(status));
  if (score >= 1 - EVEN) return el("span", { class: "badge good" }, "right");
  if (score <= EVEN) return el("span", { class: "badge bad" }, "wrong");
  return el("span", { class: "badge" }, `${(100 * score).toFixed(0)} %`);
}

function answerCell(sample) {
  const cell = el("td", { class: "answer", dir: "auto" }, "…");
  sampleOf(sample).then(
    ({ answer, error }) => {
      const head = start(error ?? answer, ANSWER);
      cell.replaceChildren();
      put(cell, head.length < (error ?? answer).length ? `${head}…` : head);
    },
    (error) => cell.replaceChildren(error.message),
  );
  return cell;
}

// Arrow keys move between rows.
list.addEventListener("keydown", (event) => {
  const buttons = [...list.querySelectorAll("button.open")];
  const at = buttons.indexOf(event.target);
  const moves = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 };
  if (at < 0 || !(event.key in moves)) return;
  event.preventDefault();
  buttons[moves[event.key]]?.focus();
});

// Focus a row by its place among all that are listed, turning to its page.
function focusRow(position) {
  if (Math.floor(position / PAGE) !== page) {
    page = Math.floor(position / PAGE);
    showPage();
  }
  list.querySelectorAll("button.open")[position % PAGE]?.focus();
}
