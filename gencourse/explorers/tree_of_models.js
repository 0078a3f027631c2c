// The tree of models: choose a leaf and read what the model can do, ask the tree which models can do something, open a chapter.
// Runs with the state alone, no network. Text takes the page's colour, so it follows light and dark themes.

const STYLE = `
  .frame { font: 0.9rem/1.4 system-ui, sans-serif; margin: 0.5rem 0 1rem; text-align: start; display: grid; gap: 0.9rem; grid-template-columns: minmax(0, 1fr); }
  fieldset { border: 0; margin: 0; padding: 0; min-width: 0; display: flex; flex-wrap: wrap; gap: 0.35rem; }
  legend { padding: 0; margin-bottom: 0.25rem; }
  fieldset label { position: relative; border: 1px solid currentColor; border-radius: 0.4rem; padding: 0.25rem 0.6rem; cursor: pointer; }
  fieldset input { position: absolute; opacity: 0; inset: 0; margin: 0; cursor: pointer; }
  fieldset label:has(:checked) { background: #3a3a3a; color: #fff; border-color: #3a3a3a; box-shadow: inset 0 -3px #fff; }
  fieldset label:has(:focus-visible), a:focus-visible { outline: 3px solid #d55e00; outline-offset: 2px; }
  ul { list-style: none; margin: 0; padding: 0; }
  li { min-width: 0; }
  .branch { display: inline-block; border-radius: 0.4rem; padding: 0.2rem 0.7rem; font-weight: 600; color: #fff; background: var(--strong); }
  .root { --strong: #3a3a3a; }
  .explicit { --strong: #005a8c; --line: #2a8cc8; }
  .implicit { --strong: #a34700; --line: #d55e00; }
  .leaf { display: block; box-sizing: border-box; color: inherit; text-decoration: none; border: 1px solid var(--line); border-radius: 0.4rem; padding: 0.3rem 0.5rem; line-height: 1.15; cursor: pointer; }
  .leaf:hover { box-shadow: inset 0 0 0 1px var(--line); }
  .leaf[aria-current] { background: var(--strong); border-color: var(--strong); color: #fff; }
  .leaf.no { opacity: 0.6; border-style: dotted; }
  .leaf.yes { position: relative; box-shadow: inset 0 0 0 1px var(--line); }
  .leaf.yes::before { content: "\\2713"; position: absolute; top: -0.5em; right: -0.35em; width: 1.3em; line-height: 1.3; border-radius: 50%; text-align: center; font-size: 0.85em; background: var(--strong); color: #fff; }

  .frame:not(.wide) .level, .frame:not(.wide) .leaves { margin-left: 0.35rem; padding: 0.4rem 0 0 0.7rem; border-left: 2px solid #8888; }
  .frame:not(.wide) .level > li:not(:last-child) { margin-bottom: 0.6rem; }
  .frame:not(.wide) .leaves { display: flex; flex-wrap: wrap; gap: 0.45rem; }
  .frame:not(.wide) .leaf { padding: 0.45rem 0.6rem; }
  .frame:not(.wide) .leaves > .inside { flex: 1 1 100%; }

  .wide .leaf { font-size: 0.77rem; text-align: center; min-height: 2.7em; display: grid; place-items: center; padding: 0.2rem 0.1rem; overflow-wrap: break-word; }
  .wide .tree { text-align: center; }
  .wide .branch { font-size: 0.8rem; padding: 0.2rem 0.35rem; line-height: 1.25; }
  .wide .level { display: flex; padding-top: 0.8rem; position: relative; }
  .wide .level::before { content: ""; position: absolute; top: 0; left: 50%; height: 0.8rem; border-left: 2px solid #8888; }
  .wide .level > li { position: relative; padding-top: 0.8rem; flex: var(--columns) 1 0; }
  .wide .level > li::before { content: ""; position: absolute; top: 0; left: 50%; height: 0.8rem; border-left: 2px solid #8888; }
  .wide .level > li::after { content: ""; position: absolute; top: 0; left: 0; right: 0; border-top: 2px solid #8888; }
  .wide .level > li:first-child::after { left: 50%; }
  .wide .level > li:last-child::after { right: 50%; }
  .wide .leaves { display: grid; grid-auto-flow: column; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); grid-template-rows: repeat(var(--rows), auto); gap: 0.3rem; padding: 0.8rem 0.15rem 0; position: relative; }
  .wide .leaves::before { content: ""; position: absolute; top: 0; left: 50%; height: 0.65rem; border-left: 2px solid #8888; }

  .panel { border: 2px solid var(--line); border-radius: 0.5rem; padding: 0.7rem 0.9rem; display: grid; gap: 0.2rem 1.6rem; }
  .panel > * { min-width: 0; }
  .wide .panel.pictured { grid-template-columns: minmax(0, 1fr) 19rem; align-items: start; }
  .title { font-weight: 700; font-size: 1.1em; margin: 0; }
  p { margin: 0.1rem 0 0.4rem; }
  dl { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 0.3rem 0.9rem; margin: 0 0 0.5rem; }
  dt { font-weight: 600; }
  dd { margin: 0; overflow-wrap: break-word; }
  code { font-size: 0.92em; overflow-wrap: anywhere; }
  .open { display: inline-block; color: inherit; font-weight: 600; border: 1px solid currentColor; border-radius: 0.4rem; padding: 0.3rem 0.8rem; }
  figure { margin: 0; }
  figure img { display: block; width: 100%; max-width: 19rem; image-rendering: pixelated; }
  figcaption { font-size: 0.9em; margin-top: 0.3rem; }
  .help { opacity: 0.85; font-size: 0.9em; }
  @media (max-width: 26rem) { dl { grid-template-columns: minmax(0, 1fr); gap: 0; } dd { margin-bottom: 0.4rem; } }
  @media (forced-colors: active) { .branch, .leaf[aria-current], fieldset label:has(:checked) { forced-color-adjust: none; } }
`;
const MARKS = { yes: "\u2713", partly: "\u223c", no: "\u2717" };
const WIDE = 680;  // CSS pixels that the tree needs to stand upright

// Where a chapter is, seen from this page: a page of the book, a notebook in Jupyter, or the public address; "" if nobody knows.
export function address(chapter, { root, path = "", home = "" }) {
  if (root !== undefined) return `${root}book/${chapter}.html`;
  if (/\/(tree|notebooks|doc|edit)\/.*\.ipynb$/.test(path)) return `${chapter}.ipynb`;
  return home && `${home}/book/${chapter}.ipynb`;
}

// The leaf that lies next in a direction, or null: near along it, and nearer still across it.
export function next(boxes, from, [dx, dy]) {
  const middle = ({ x, y, width, height }) => [x + width / 2, y + height / 2], [a, b] = middle(boxes[from]);
  let best = null, least = Infinity;
  boxes.forEach((box, i) => {
    const [x, y] = middle(box), along = (x - a) * dx + (y - b) * dy, across = Math.abs((x - a) * dy) + Math.abs((y - b) * dx);
    if (along > 3 && along + 3 * across < least) [best, least] = [i, along + 3 * across];
  });
  return best;
}

function make(tag, attributes = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function render({ model, el }) {
  const models = model.get("models"), questions = model.get("questions");
  const place = { root: document.documentElement.dataset.content_root, path: location.pathname, home: model.get("home") };
  const set = (name, value) => { model.set(name, value); model.save_changes(); show(); };
  const link = (chapter, attributes, children) => {
    const href = address(chapter, place), where = href.endsWith(".ipynb") ? { target: "_blank" } : {};
    return make("a", { ...(href ? { href, ...where } : { role: "button" }), ...attributes }, children);
  };

  const leaves = new Map();  // name -> its link, in the order of the page
  const sides = new Map();   // name -> "explicit" or "implicit", which have a colour each
  const columns = ({ branches, models: own }) => branches.reduce((sum, branch) => sum + columns(branch), 0) + Math.ceil(own.length / 7);
  function leaf(name, side) {
    const one = link(models[name].chapter, { class: "leaf", tabindex: "-1" }, [models[name].title]);
    let before = false;  // whether it was chosen before it was pressed: only then is it opened
    one.addEventListener("pointerdown", () => { before = model.get("chosen") === name; });
    one.addEventListener("click", (event) => {
      const pressed = event.detail > 0;  // by a pointer, not by a key
      if (event.ctrlKey || event.metaKey || event.shiftKey || (model.get("chosen") === name && (before || !pressed))) return;
      event.preventDefault();
      choose(name);
    });
    leaves.set(name, one);
    sides.set(name, side);
    return make("li", {}, [one]);
  }
  function level(branches, side) {
    return make("ul", { class: "level" }, branches.map((branch) => {
      const own = side ?? branch.title.split(" ")[0].toLowerCase(), wide = columns(branch), rows = Math.ceil(branch.models.length / Math.max(1, wide));
      const children = [make("span", { class: "branch" }, [branch.title])];
      if (branch.branches.length) children.push(level(branch.branches, own));
      if (branch.models.length) children.push(make("ul", { class: "leaves", style: `--rows: ${rows}` }, branch.models.map((name) => leaf(name, own))));
      return make("li", { class: own, style: `--columns: ${wide}` }, children);
    }));
  }
  const tree = make("div", { class: "tree", role: "group", "aria-label": "The tree of models. The arrow keys choose one, Enter opens its chapter." }, [
    make("span", { class: "branch root" }, ["Generative models"]), level(model.get("tree")),
  ]);

  const inputs = [-1, ...questions.keys()].map((i) => {
    const input = make("input", { type: "radio", name: "asked", value: i });
    input.addEventListener("change", () => set("asked", i));
    return input;
  });
  const ask = make("fieldset", {}, [
    make("legend", {}, ["Which model \u2026"]),
    ...inputs.map((input, i) => make("label", {}, [input, i ? `${questions[i - 1].text}?` : "all of them"])),
  ]);
  const answer = make("span", { class: "answer", role: "status" });
  const panel = make("div", { class: "panel", role: "region", "aria-label": "The chosen model", "aria-live": "polite" });
  const inside = make("li", { class: "inside" });
  const help = make("div", { class: "help" }, ["Choose a model by a click or by the arrow keys; click it again, or press Enter, to open its chapter. ", answer]);
  const frame = make("div", { class: "frame" }, [ask, help, tree]);
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  root.replaceChildren(make("style", {}, [STYLE]), frame);

  function told(name) {
    const { title, says, facts, chapter, paper, slides, code, sample } = models[name], number = Number(chapter.slice(0, 2));
    const rows = facts.flatMap(([label, , can, text]) => [
      make("dt", {}, [label]), make("dd", { class: can }, [make("span", { "aria-hidden": "true" }, [`${MARKS[can]} `]), text]),
    ]);
    const row = (label, ...content) => [make("dt", {}, [label]), make("dd", {}, content)];
    const words = [
      make("div", { class: "title" }, [title]), make("p", {}, [says]),
      make("dl", {}, [...rows, ...row("Paper", paper), ...row("Slides", slides || "beside the lecture"), ...row("Code", make("code", {}, [code]))]),
      place.root === undefined && !address(chapter, place)
        ? make("div", {}, [`Chapter ${number}: book/${chapter}.ipynb`])
        : link(chapter, { class: "open" }, [`Open chapter ${number}`]),
    ];
    const picture = sample ? [make("figure", {}, [
      make("img", { src: `data:image/png;base64,${sample.png}`, alt: `Samples of ${title}: ${sample.says}` }), make("figcaption", {}, [sample.says]),
    ])] : [];
    return [make("div", {}, words), ...picture];
  }

  let shown = null;
  function show() {
    const name = model.get("chosen"), asked = questions[model.get("asked")], wide = frame.classList.contains("wide");
    const at = leaves.get(name), before = at.getBoundingClientRect().top;
    for (const [other, one] of leaves) {
      const yes = asked?.yes.includes(other);
      one.className = `leaf ${asked ? (yes ? "yes" : "no") : ""}`;
      one.tabIndex = other === name ? 0 : -1;
      if (other === name) one.setAttribute("aria-current", "true");
      else one.removeAttribute("aria-current");
    }
    inputs.forEach((input) => { input.checked = Number(input.value) === model.get("asked"); });
    answer.textContent = asked ? `${asked.yes.length} of ${leaves.size} models: marked with \u2713.` : "";
    if (shown !== name) {
      panel.replaceChildren(...told(name));
      panel.className = `panel ${sides.get(name)} ${models[name].sample ? "pictured" : ""}`;
    }
    if (wide && panel.parentNode !== frame) { inside.remove(); frame.append(panel); }
    if (!wide && (panel.parentNode !== inside || inside.previousSibling !== at.parentNode)) {
      inside.replaceChildren(panel);
      at.parentNode.after(inside);
      if (shown !== null && shown !== name) window.scrollBy(0, at.getBoundingClientRect().top - before);  // it stays under the finger
    }
    shown = name;
  }
  function choose(name) {
    set("chosen", name);
    leaves.get(name).focus({ preventScroll: true });
  }

  tree.addEventListener("keydown", (event) => {
    const names = [...leaves.keys()], from = names.findIndex((name) => leaves.get(name) === event.target);
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (from < 0 || (!way && !["Home", "End"].includes(event.key))) return;
    event.preventDefault();  // the page must not scroll, nor the notebook change cells
    event.stopPropagation();
    const to = way ? next(names.map((name) => leaves.get(name).getBoundingClientRect()), from, way) : event.key === "Home" ? 0 : names.length - 1;
    if (to === null) return;
    choose(names[to]);
    leaves.get(names[to]).scrollIntoView({ block: "nearest" });
  });
  ask.addEventListener("keydown", (event) => event.key.startsWith("Arrow") && event.stopPropagation());
  const fit = () => { frame.classList.toggle("wide", el.getBoundingClientRect().width >= WIDE); show(); };
  const watch = new ResizeObserver(fit);
  watch.observe(el);
  fit();
  for (const name of ["chosen", "asked"]) model.on(`change:${name}`, show);
  return () => { watch.disconnect(); for (const name of ["chosen", "asked"]) model.off(`change:${name}`, show); };
}

export default { render };
