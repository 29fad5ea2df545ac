// The data blocks of the page and the side files, decoded. See encode.py for what they hold.

const KEPT = 48; // parts kept in memory, of pages whose samples lie in side files

const index = JSON.parse(document.getElementById("deltamem-index").textContent);

function column(packed) {
  if (Array.isArray(packed)) return packed;
  if ("c" in packed) return new Array(packed.n).fill(packed.c);
  const values = [];
  for (let at = 0; at < packed.r.length; at += 2) {
    for (let left = packed.r[at + 1]; left > 0; left -= 1) values.push(packed.r[at]);
  }
  return values;
}

const questions = {
  id: index.questions.id,
  title: index.questions.title,
  targets: index.questions.targets,
  category: column(index.questions.category),
  source: column(index.questions.source),
  seed: column(index.questions.seed),
  part: column(index.questions.part),
};

const blocks = index.blocks.map((block) => ({
  setting: block.setting,
  questions: block.questions,
  score: column(block.score),
  status: column(block.status),
  part: column(block.part),
}));

// Every sample of every cell in flat columns, so that filters are one loop.
const samples = flatten();

function flatten() {
  const total = blocks.reduce((sum, block) => sum + block.score.length, 0);
  const flat = {
    total,
    block: new Uint32Array(total),
    row: new Uint32Array(total),
    setting: new Uint32Array(total),
    question: new Uint32Array(total),
    status: new Uint8Array(total),
    score: new Float64Array(total),
  };
  let at = 0;
  blocks.forEach((block, number) => {
    let row = 0;
    for (let pair = 0; pair < block.questions.length; pair += 2) {
      for (let step = 0; step < block.questions[pair + 1]; step += 1, row += 1, at += 1) {
        flat.block[at] = number;
        flat.row[at] = row;
        flat.setting[at] = block.setting;
        flat.question[at] = block.questions[pair] + step;
        flat.status[at] = block.status[row];
        flat.score[at] = block.score[row] ?? 0;
      }
    }
  });
  return flat;
}

const waiting = new Map(); // number of a side file: what to call with its data
const loaded = new Map(); // number: promise of a decoded part, the latest used last

// What a side file calls.
globalThis.deltamemPart = (number, name, data) => waiting.get(number)?.(name, data);

function part(number) {
  const known = loaded.get(number) ?? decoded(number);
  loaded.delete(number);
  loaded.set(number, known);
  known.catch(() => loaded.delete(number));
  if (loaded.size > KEPT) loaded.delete(loaded.keys().next().value);
  return known;
}

async function decoded(number) {
  const block = document.getElementById(`deltamem-part-${number}`);
  const data = block ? JSON.parse(block.textContent) : await sideFile(number);
  const rows = new Map();
  for (const [owner, first, columns] of data.rows) {
    const named = Object.fromEntries(Object.entries(columns).map(([name, packed]) => [name, column(packed)]));
    rows.set(owner, [...(rows.get(owner) ?? []), { first, columns: named }]);
  }
  return { values: data.values, shown: data.shown, rows, questions: new Map(data.questions.map((entry) => [entry[0], entry])) };
}

function sideFile(number) {
  const file = `${String(number).padStart(4, "0")}.js`;
  const place = `${index.folder}/${file}`;
  return new Promise((resolve, reject) => {
    const script = el("script", { src: `${encodeURIComponent(index.folder)}/${file}` });
    waiting.set(number, (name, data) => {
      if (name === index.files[number]) resolve(data);
      else reject(new Error(`${place} belongs to another page: write the page again`));
    });
    script.addEventListener("error", () => reject(new Error(`${place} cannot be read: keep it beside the page`)));
    script.addEventListener("load", () => {
      waiting.delete(number);
      script.remove();
      reject(new Error(`${place} holds no samples`)); // changes nothing where it did
    });
    document.head.append(script);
  });
}

// Texts and numbers of left out characters, from a list of places and negative numbers.
function segments(from, list) {
  const found = [];
  let lines = [];
  for (const item of list) {
    if (item >= 0) lines.push(from.values[item]);
    else {
      found.push(lines.join("\n"), -item);
      lines = [];
    }
  }
  return [...found, lines.join("\n")];
}

// A question's texts; `stored` tells whether a run kept its text and excerpt.
async function questionOf(number) {
  const from = await part(questions.part[number]);
  const [, targets, facts, prompt, evidence, excerpt] = from.questions.get(number);
  const found = {
    targets: targets.map((place) => from.values[place]),
    facts: from.values[facts],
    stored: prompt !== undefined,
  };
  if (!found.stored) return { ...found, evidence: [] };
  const passages = evidence.flatMap((list) => segments(from, list).filter((item) => typeof item === "string"));
  return {
    ...found,
    prompt: segments(from, prompt),
    evidence: passages.map((passage) => passage.trim()),
    excerpt: excerpt.map(([mark, cut, ...lines]) => ({ mark, cut, text: segments(from, lines)[0] })),
  };
}

// What was stored of one sample. shown: segments of the prompt's context, null for none, undefined for unknown.
async function sampleOf(number) {
  const block = samples.block[number];
  const row = samples.row[number];
  const from = await part(blocks[block].part[row]);
  const piece = from.rows.get(block).find(({ first, columns }) => row >= first && row < first + columns.answer.length);
  const at = (name) => piece.columns[name][row - piece.first];
  const shown = at("shown");
  return {
    answer: from.values[at("answer")],
    error: at("error") === null ? null : from.values[at("error")],
    metrics: from.values[at("metrics")],
    memory: from.values[at("memory")],
    shown: shown >= 0 ? segments(from, from.shown[shown]) : shown === -1 ? null : undefined,
    promptTokens: at("prompt_tokens"),
    contextTokens: at("context_tokens"),
    newTokens: at("new_tokens"),
    evidence: at("evidence"),
    gold: at("gold"),
    writeSeconds: at("write_seconds"),
    answerSeconds: at("answer_seconds"),
  };
}
