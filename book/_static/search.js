// Search over the prose of the book, a section a hit, best first. SECTIONS comes from search-index.js:
// [address, page's title, section's title, prose, numbers of its equations]. So does TERMS, the glossary:
// [address of the section that introduces a term, its names, what else leads there, what it is].

// Words as they are compared: one spelling for British and American, singular for plural, but "importance" is no "import".
function stem(word) {
  return word
    .normalize("NFD").replace(/\p{M}/gu, "")
    .replace(/is(ations?|ed?|es|ing|ers?)$/, "iz$1")
    .replace(/^(col|neighb|behavi|fav)our/, "$1or")
    .replace(/(iz|yz)(ations?|ed?|es|ing|ers?)$/, "$1")
    .replace(/(..)ies$/, "$1y")
    .replace(/(ss|sh|ch|x)es$/, "$1")
    .replace(/([^s])s$/, "$1")
    .replace(/(..[^aeiou])(ing|ed)$/, "$1")
    .replace(/([^aeioulsz])\1$/, "$1")
    .replace(/(...)e$/, "$1");
}
const words = (text) => text.toLowerCase().replace(/['\u2019]s(?!\p{L})/gu, "").match(/\d+\.\d+|[\p{L}\p{N}]+(?:\+\+)?/gu) ?? [];
const terms = (text) => words(text).map(stem);

const FIELDS = [[1, 4], [2, 6], [3, 1]];  // the page's title, the section's title and the prose, with their weights
const sections = SECTIONS.map(([address, page, title, text, numbers]) => {
  const count = new Map();
  let length = 0;
  for (const [field, weight] of FIELDS) {
    for (const term of terms([, page, title, text][field])) {
      count.set(term, (count.get(term) ?? 0) + weight);
      length += field === 3;
    }
  }
  // the place where an equation stands, ahead of those that mention it
  for (const number of numbers.split(" ")) if (number) count.set(number, (count.get(number) ?? 0) + 30);
  return { address, page, title, text, count, length, all: ` ${terms(`${page} ; ${title} ; ${text}`).join(" ")} ` };
});
const mean = sections.reduce((sum, { length }) => sum + length, 0) / sections.length;
const index = new Map();  // term -> sections that have it
sections.forEach(({ count }, i) => {
  for (const term of count.keys()) index.set(term, [...(index.get(term) ?? []), i]);
});
const vocabulary = [...index.keys()];

const key = (text) => terms(text).join(" ");
const within = (part, whole) => ` ${whole} `.includes(` ${part} `);
const placeOf = new Map(sections.map(({ address }, i) => [address, i]));
const glossary = TERMS.map(([address, names, others, says]) => ({
  name: names[0], says, place: placeOf.get(address), names: names.map(key), all: [...names, ...others].map(key),
}));

// The terms that a query names, each with the name used: the longest where one lies in another. Two letters may be a
// word of a sentence ("is"), so they count only alone.
function meant(phrase) {
  const found = glossary.flatMap((term) => term.all
    .filter((name) => name === phrase || (name.length > 2 && within(name, phrase)))
    .map((name) => ({ term, name })));
  return found.filter(({ name }) => !found.some((other) => other.name !== name && within(name, other.name)));
}

// The query's words, and the same with other names of the terms in it.
function wordings(phrase) {
  const others = meant(phrase).flatMap(({ term, name }) => !term.names.includes(name) ? [] : term.names
    .filter((other) => other !== name)
    .map((other) => ` ${phrase} `.replace(` ${name} `, ` ${other} `).trim()));
  return [...new Set([phrase, ...others])];
}

// The sections that have most of the query's words, in any wording; the one that introduces what was asked for comes first.
function find(query) {
  const phrase = key(query), best = new Map();
  wordings(phrase).forEach((wording, at) => {
    for (const [i, value] of scored(wording)) best.set(i, Math.max(best.get(i) ?? 0, at ? 0.8 * value : value));
  });
  const top = Math.max(0, ...best.values());
  for (const { term, name } of meant(phrase)) {
    const had = best.get(term.place) ?? 0;
    if (term.place !== undefined) best.set(term.place, name === phrase ? had + top + 1 : 2 * had);
  }
  return [...best].map(([i, score]) => ({ ...sections[i], score })).sort((a, b) => b.score - a.score);
}

// The sections that have most of a wording's words, by BM25, with a bonus where the words stand together.
function scored(phrase) {
  const asked = [...new Set(phrase.split(" ").filter(Boolean))];
  const score = new Map(), had = new Map();
  asked.forEach((term) => {
    // a word that is not there yet may be the beginning of one
    const forms = index.has(term) ? [term] : vocabulary.filter((word) => term.length > 2 && word.startsWith(term));
    const best = new Map();
    for (const form of forms) {
      const places = index.get(form), rarity = Math.log(1 + (sections.length - places.length + 0.5) / (places.length + 0.5));
      for (const i of places) {
        const { count, length } = sections[i], n = count.get(form);
        const value = (rarity * n * 2.2) / (n + 1.2 * (0.25 + (0.75 * length) / mean));
        best.set(i, Math.max(best.get(i) ?? 0, value));
      }
    }
    for (const [i, value] of best) {
      score.set(i, (score.get(i) ?? 0) + value);
      had.set(i, (had.get(i) ?? 0) + 1);
    }
  });
  return [...score].map(([i, value]) => {
    const together = asked.length > 1 && within(phrase, sections[i].all) ? 1.6 : 1;
    const { address } = sections[i];  // who searches wants the explanation first
    const place = address.startsWith("exercises/") ? 0.8 : /^book\/(library|models|glossary|equations|teaching)/.test(address) ? 0.4 : 1;
    return [i, place * value * together * (had.get(i) / asked.length) ** 2];
  });
}

// A stretch of the prose round the first place where most of the words stand, the words marked.
function excerpt(text, query) {
  const here = key(text), said = wordings(key(query)).filter((wording, at) => !at || within(wording, here));
  const asked = new Set(said.flatMap((wording) => wording.split(" "))), parts = text.split(/(\s+)/);
  const hit = parts.map((part) => terms(part).some((term) => asked.has(term)));
  let from = 0, most = -1;
  for (let i = 0; i < parts.length; i += 2) {
    const n = hit.slice(i, i + 60).filter(Boolean).length;
    if (n > most) [from, most] = [i, n];
  }
  from = Math.max(0, from - 10);
  const line = document.createElement("p");
  if (from) line.append("\u2026 ");
  parts.slice(from, from + 80).forEach((part, i) => {
    const mark = hit[from + i] ? document.createElement("mark") : null;
    if (mark) mark.textContent = part;
    line.append(mark ?? part);
  });
  if (from + 80 < parts.length) line.append(" \u2026");
  return line;
}

const place = document.getElementById("search-results");
const query = new URLSearchParams(location.search).get("q")?.trim() ?? "";
if (query) {
  for (const input of document.querySelectorAll("form.bd-search input[name=q]")) input.value = query;
  const found = find(query).slice(0, 30), summary = document.createElement("p"), list = document.createElement("ul");
  summary.setAttribute("role", "status");
  summary.textContent = found.length ? `${found.length === 30 ? "The best 30" : found.length} sections for \u201c${query}\u201d` : `Nothing for \u201c${query}\u201d. Other words, or fewer, may find it.`;
  list.className = "search";
  for (const { address, page, title, text } of found) {
    const link = document.createElement("a"), item = document.createElement("li");
    link.href = address;
    link.textContent = title === page ? page : `${page} \u203a ${title}`;
    item.append(link, excerpt(text, query));
    list.append(item);
  }
  const meanings = meant(key(query)).filter(({ name }) => name === key(query)).map(({ term }) => {
    const line = document.createElement("p"), name = document.createElement("strong");
    name.textContent = term.name;
    line.append(name, `: ${term.says}`);
    return line;
  });
  place.replaceChildren(...meanings, summary, list);
}
