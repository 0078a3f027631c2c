// What a pixel may look at: choose a model and a pixel, and see on which earlier pixels its conditional depends.
// Runs with the state alone, no network. Text takes the page's colour, so it follows light and dark themes.

const STYLE = `
  .frame { display: flex; flex-wrap: wrap; gap: 0.8rem 1.4rem; align-items: flex-start; font: 0.9rem/1.4 system-ui, sans-serif; margin: 0.5rem 0 1rem; }
  fieldset { flex: 1 1 100%; display: flex; flex-wrap: wrap; gap: 0.4rem; border: 0; margin: 0; padding: 0; min-width: 0; }
  legend { padding: 0; margin-bottom: 0.2rem; }
  fieldset label { position: relative; border: 1px solid currentColor; border-radius: 0.4rem; padding: 0.3rem 0.7rem; cursor: pointer; }
  fieldset input { position: absolute; opacity: 0; inset: 0; margin: 0; cursor: pointer; }
  fieldset label:has(:checked) { background: #0072b2; color: #fff; border-color: #0072b2; box-shadow: inset 0 -3px #fff; }
  fieldset label:has(:focus-visible), .plane:focus-visible { outline: 3px solid #d55e00; outline-offset: 2px; }
  .map { flex: 1 1 16rem; max-width: 22rem; display: grid; grid-template-columns: auto 1fr; gap: 0.2rem 0.4rem; }
  .rows, .columns { display: grid; gap: 2px; font-size: 0.8em; font-variant-numeric: tabular-nums; place-items: center; opacity: 0.85; }
  .columns { grid-column: 2; }
  .rows { grid-auto-rows: 1fr; }
  .columns { grid-auto-flow: column; grid-auto-columns: 1fr; }
  .plane { display: grid; gap: 2px; touch-action: pan-y; cursor: crosshair; user-select: none; -webkit-user-select: none; }
  .cell { box-sizing: border-box; aspect-ratio: 1; display: grid; place-items: center; line-height: 1; font-weight: 700; overflow: hidden; pointer-events: none; }
  .swatch { display: inline-grid; width: 1.3em; height: 1.3em; vertical-align: middle; margin-right: 0.4em; }
  .later { background: #8884; transform: scale(0.5); }
  .seen { background: rgb(0 114 178 / calc(0.15 + 0.85 * var(--strength))); border: 1px solid #0072b2; }
  .blind { border: 2px solid #d55e00; background: repeating-linear-gradient(135deg, #d55e00 0 2px, transparent 2px 6px); }
  .here { border: 3px solid currentColor; }
  .plane .here { pointer-events: auto; touch-action: none; }
  .leak { background: #a0003c; color: #fff; }
  .view { flex: 1 1 13rem; max-width: 26rem; display: flex; flex-direction: column; gap: 0.5rem; }
  output { font-weight: 600; min-height: 2.8em; font-variant-numeric: tabular-nums; }
  ul { list-style: none; margin: 0; padding: 0; display: grid; gap: 0.25rem; }
  .help { opacity: 0.85; font-size: 0.9em; }
  @media (forced-colors: active) { .cell, fieldset label { forced-color-adjust: none; } }
`;

// What is seen from every position of a model's order, from its bytes: strength[i * D + j] of pixel j on conditional i, in the order.
export function fields({ order, strength }) {
  const bytes = Uint8Array.from(atob(strength.data), (c) => c.charCodeAt(0)), size = order.length;
  const positions = new Map(order.map((pixel, position) => [pixel, position]));
  // For a pixel (a flat index): how strongly it depends on each pixel (0 to 1, by flat index), and which are of which kind.
  return (pixel) => {
    const here = positions.get(pixel), strengths = new Float64Array(size), kinds = { seen: [], blind: [], leak: [] };
    for (let j = 0; j < size; j++) {
      const value = bytes[here * size + j] / 255;
      strengths[order[j]] = value;
      if (j < here) kinds[value ? "seen" : "blind"].push(order[j]);
      else if (value) kinds.leak.push(order[j]);
    }
    return { strengths, earlier: here, ...kinds };
  };
}

const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

export function sentence([row, column], { earlier, seen, blind, leak }) {
  const sees = earlier === 0
    ? "comes first, there is nothing to see"
    : `sees ${seen.length} of ${count(earlier, "earlier pixel")}; ${blind.length || "none"} in the blind spot`;
  return `row ${row}, column ${column}: ${sees}${leak.length ? `; and it leaks: it depends on ${count(leak.length, "pixel")} not before it` : ""}`;
}

function make(tag, attributes = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function render({ model, el }) {
  const models = model.get("models"), height = model.get("height"), width = model.get("width");
  const of = models.map(fields);

  const inputs = models.map((_, i) => make("input", { type: "radio", name: "model", value: i }));
  const chooser = make("fieldset", {}, [make("legend", {}, ["Model"]), ...models.map(({ name }, i) => make("label", {}, [inputs[i], name]))]);
  inputs.forEach((input, i) => input.addEventListener("change", () => { model.set("model", i); model.save_changes(); show(); }));

  const cells = Array.from({ length: height * width }, () => make("div", { class: "cell" }));
  const plane = make("div", {
    class: "plane", tabindex: "0", role: "application", "aria-roledescription": "grid of pixels",
    "aria-label": "Pixels. The arrow keys choose one; Home goes to the first, End to the last.",
    style: `grid-template-columns: repeat(${width}, 1fr)`,
  }, cells);
  const numbers = (name, n) => make("div", { class: name, "aria-hidden": "true" }, Array.from({ length: n }, (_, i) => make("span", {}, [String(i)])));
  const map = make("div", { class: "map" }, [numbers("columns", width), numbers("rows", height), plane]);

  const text = make("output", { "aria-live": "polite" });
  const whole = make("div", { class: "whole" });
  const swatch = (kind, glyph, words, strength = 0) =>
    make("li", {}, [make("span", { class: `swatch cell ${kind}`, style: `--strength: ${strength}`, "aria-hidden": "true" }, [glyph]), words]);
  const leaks = swatch("leak", "!", "a leak: must not be seen, and is");
  const legend = make("ul", {}, [
    swatch("here", "?", "the pixel to be predicted"),
    swatch("seen", "", "seen, the strongest influence", 1),
    swatch("seen", "", `seen, 1/${10 ** model.get("decades")} of that or less`, 0),
    swatch("blind", "", "the blind spot: earlier, but never seen"),
    swatch("later", "", "later in the order"),
    leaks,
  ]);
  const help = make("div", { class: "help" }, ["Click or drag in the grid, or focus it and use the arrow keys. Rows and columns count from 0."]);
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  root.replaceChildren(make("style", {}, [STYLE]), make("div", { class: "frame" }, [chooser, map, make("div", { class: "view" }, [text, whole, legend, help])]));

  const anywhere = of.map((field) => {  // over all pixels of the image
    const all = cells.map((_, i) => field(i));
    return { seen: all.reduce((n, f) => n + f.seen.length, 0), leaks: all.some((f) => f.leak.length) };
  });
  leaks.hidden = !anywhere.some((a) => a.leaks);

  function show() {
    const chosen = model.get("model"), [row, column] = model.get("pixel"), here = row * width + column;
    const field = of[chosen](here), pairs = (cells.length * (cells.length - 1)) / 2;
    const kind = new Array(cells.length).fill("later");
    for (const name of ["seen", "blind", "leak"]) for (const i of field[name]) kind[i] = name;
    cells.forEach((cell, i) => {
      const leaked = kind[i] === "leak";
      cell.className = `cell ${i === here ? "here" : ""} ${i === here && !leaked ? "" : kind[i]}`;
      cell.style.setProperty("--strength", field.strengths[i].toFixed(3));
      cell.textContent = leaked ? "!" : i === here ? "?" : "";
    });
    inputs.forEach((input, i) => { input.checked = i === chosen; });
    text.textContent = sentence([row, column], field);
    const { seen } = anywhere[chosen];
    whole.textContent = `${models[chosen].name}, all pixels together: ${seen} of ${pairs} pairs seen (${((100 * seen) / Math.max(1, pairs)).toFixed(1)} %)`;
  }
  function choose(row, column) {
    const inside = [Math.min(height - 1, Math.max(0, row)), Math.min(width - 1, Math.max(0, column))];
    if (String(inside) === String(model.get("pixel"))) return;  // a drag within a pixel says nothing new
    model.set("pixel", inside);
    model.save_changes();
    show();
  }

  // A finger that swipes up or down scrolls the page; one that goes sideways, taps, or begins on the chosen pixel moves it.
  let dragging = false, tap = null;
  const stop = () => { dragging = false; tap = null; };
  function follow(event) {
    const { left, top, width: w, height: h } = plane.getBoundingClientRect();
    choose(Math.floor((height * (event.clientY - top)) / h), Math.floor((width * (event.clientX - left)) / w));
  }
  plane.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    dragging = true;
    tap = event.pointerType === "touch" && !event.composedPath()[0].classList?.contains("here") ? [event.clientX, event.clientY] : null;
    plane.setPointerCapture(event.pointerId);
    plane.focus({ preventScroll: true });
    event.preventDefault();
    if (!tap) follow(event);
  });
  plane.addEventListener("pointermove", (event) => {
    if (tap && Math.abs(event.clientX - tap[0]) > Math.abs(event.clientY - tap[1]) + 4) tap = null;
    if (dragging && !tap) follow(event);
  });
  plane.addEventListener("pointerup", (event) => { if (dragging) follow(event); stop(); });
  for (const end of ["pointercancel", "lostpointercapture"]) plane.addEventListener(end, stop);
  plane.addEventListener("keydown", (event) => {
    const [row, column] = model.get("pixel");
    const to = {
      ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
      Home: [0, 0], End: [height - 1, width - 1],
    }[event.key];
    if (!to) return;
    event.preventDefault();  // the page must not scroll, nor the notebook change cells
    event.stopPropagation();
    choose(...to);
  });
  chooser.addEventListener("keydown", (event) => event.key.startsWith("Arrow") && event.stopPropagation());
  for (const name of ["model", "pixel"]) model.on(`change:${name}`, show);
  show();
  return () => { for (const name of ["model", "pixel"]) model.off(`change:${name}`, show); };
}

export default { render };
