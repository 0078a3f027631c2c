// Draw an outline, and a U-Net fills it in, here. Runs with the state alone. `make`, `unpack` and `draggable` are plane.js's, pictures
// and buttons those of pixels.js, `network` that of networks.js, what is made of feature maps that of maps.js.

const STYLE = `${PIXELS}
  .pictures { display: grid; grid-template-columns: 1fr 1fr; gap: 0.2rem 1rem; max-width: 36rem; align-items: start; }
  .pictures .name { align-self: end; }
  .plane { position: relative; cursor: crosshair; touch-action: pan-y; user-select: none; -webkit-user-select: none; overflow: hidden; outline: 1px solid #8888; }
  .plane:focus-visible { outline: 3px solid #0072b2; outline-offset: 3px; }
  .mark { position: absolute; box-sizing: border-box; border: 2px dashed #fff; outline: 2px solid #0072b2; touch-action: none; }
  .mark.everywhere::after { content: ""; position: absolute; inset: -100vmax; touch-action: none; }
  .told { min-height: 7em; }
  label.whole { cursor: pointer; }
  label.whole input { width: 1rem; height: 1rem; margin: 0; accent-color: #0072b2; }
  @media (max-width: 36rem) { .pictures { gap: 0.2rem 0.6rem; } .told { min-height: 12.6em; } }
`;
const TONES = [0.3, 0.9], NEAR = 0.15, PHASES = 4;  // of the stripes, as they are drawn
const NAMES = { l1: "L1 alone", gan: "L1 + GAN" };

// The layers of a U-Net, one by one: noise and a picture -> a picture, in [-1, 1].
export function unet(parts) {
  const ready = parts.map(({ name, from, layers }) => ({ kind: name.split(" ")[0], from, run: mapping(layers) }));
  return (z, source) => {
    const skips = [];
    let h = Float64Array.from(source);
    for (const { kind, run, from: [, height, width] } of ready) {
      if (kind === "down") skips.push(h);
      if (kind === "bottom") h = beside(h, ...Array.from(z, (v) => new Float64Array(height * width).fill(v)));
      if (kind === "up") h = beside(doubled(h, width / 2), skips.pop());
      h = run(h);
    }
    return h;
  };
}

// What is inside a drawn line: all that cannot be reached from the edge without crossing it.
export function inside(drawing, width) {
  const height = drawing.length / width, reached = new Uint8Array(drawing.length), front = [];
  const reach = (row, column) => {
    const i = row * width + column;
    if (row < 0 || column < 0 || row >= height || column >= width || drawing[i] || reached[i]) return;
    reached[i] = 1;
    front.push([row, column]);
  };
  for (let i = 0; i < drawing.length; i++) {
    const row = Math.floor(i / width), column = i % width;
    if (row === 0 || column === 0 || row === height - 1 || column === width - 1) reach(row, column);
  }
  while (front.length) {
    const [row, column] = front.pop();
    for (const [a, b] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) reach(row + a, column + b);
  }
  return reached.map((out, i) => Number(!out && !drawing[i]));
}

// The share of the inside that is near the tone of stripes, in each phase; values in [0, 1].
export function striped(values, within, width) {
  const all = within.reduce((sum, v) => sum + v, 0);
  return Array.from({ length: PHASES }, (_, phase) => {
    let near = 0;
    within.forEach((there, i) => {
      const tone = TONES[Math.floor((Math.floor(((i % width) * 16) / width) + phase) / 2) % 2];
      near += there && Math.abs(values[i] - tone) < NEAR;
    });
    return near / all;
  });
}

function render({ model, el }) {
  const unets = Object.fromEntries(Object.entries(model.get("networks")).map(([name, parts]) => [name, unet(parts)]));
  const height = model.get("height"), width = model.get("width"), size = shape(height, width), pixels = height * width;
  const outlines = model.get("outlines"), levels = model.get("levels"), last = levels - 1;
  const noise = (seed) => normals(random(seed), model.get("latent"));
  const filled = (name, seed) => {  // in grey levels, 0 to `last`
    const y = unets[name](noise(seed), Array.from(drawing, (v) => 2 * v - 1));
    return y.map((v) => Math.round(((v + 1) / 2) * last));
  };

  // --- What is seen
  let drawing, moved = null;  // what the last new noise did
  const outline = picture(size, { "aria-hidden": "true" }, 480), answer = picture(size, { role: "img", class: "answer" }, 480);
  const mark = make("div", { class: "mark" });
  mark.style.width = `${100 / width}%`;
  mark.style.height = `${100 / height}%`;
  const plane = make("div", { class: "plane", tabindex: "0", role: "application", "aria-roledescription": "image to draw on" }, [outline.canvas, mark]);
  const answerName = make("div", { class: "name" });
  const pictures = make("div", { class: "pictures" }, [make("div", { class: "name" }, ["Your outline"]), answerName, plane, answer.canvas]);
  const told = make("output", { class: "told", "aria-live": "polite" });
  const choices = radios(model, "trained with", "network", Object.entries(NAMES), (name) => set({ network: name }));
  const pens = radios(model, "pen", "pen", [["1", "line"], ["0", "rubber"]], (pen) => set({ pen }));
  const start = choice("Outline to begin with", [[-1, "take an outline"], ...outlines.map((_, i) => [i, `test outline ${i + 1}`])], (i) => {
    if (i >= 0) draw(outlines[i]);
  });
  const whole = make("input", { type: "checkbox" });
  whole.addEventListener("change", () => mark.classList.toggle("everywhere", whole.checked));
  const again = button("new noise", () => {
    const before = filled(model.get("network"), model.get("seed")), seed = (model.get("seed") + 1) % 2 ** 32;
    const change = filled(model.get("network"), seed).map((v, i) => Math.abs(v - before[i]));
    set({ seed }, { mean: change.reduce((sum, v) => sum + v, 0) / pixels, most: Math.max(...change) });
  });
  const controls = make("div", { class: "row" }, [choices.element, again]);
  const tools = make("div", { class: "row", role: "group", "aria-label": "Drawing" }, [
    pens.element, start, button("clear", () => draw("0".repeat(pixels))), make("label", { class: "whole" }, [whole, "a finger draws up and down too"]),
  ]);
  const help = make("div", { class: "help" }, [
    "Draw the outline of a shape on the left. With the keyboard: focus the drawing, choose a pixel with the arrow keys, draw with Enter, "
    + "rub out with Delete. With a finger, strokes begin sideways, or on the dashed frame, so that the page can be scrolled; the box above "
    + "lets strokes begin anywhere, and then the page is not scrolled from the drawing. Both networks had the same pairs: outlines of "
    + "discs, squares and triangles, and the same shapes with upright stripes in one of four phases. Nothing in an outline tells the phase. "
    + "A pixel counts as striped within 0.15 of its tone, in the best phase.",
  ]);
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  const frame = make("div", { class: "frame" }, [controls, tools, pictures, told, help]);
  root.replaceChildren(make("style", {}, [STYLE]), frame);

  let at = Math.floor(height / 2) * width + Math.floor(width / 2);  // the keyboard's pixel
  const home = at;
  function aim() {
    mark.style.left = `${(100 * (at % width)) / width}%`;
    mark.style.top = `${(100 * Math.floor(at / width)) / height}%`;
    plane.setAttribute("aria-label", `Your outline, at ${size.at(at)}: ${drawing[at] ? "line" : "empty"}. The arrow keys choose a pixel, Enter draws, Delete rubs out.`);
  }
  const percent = (v) => `${Math.round(100 * v)} %`;
  function words(name, values, within) {
    const line = drawing.reduce((sum, v) => sum + v, 0), inner = within.reduce((sum, v) => sum + v, 0);
    if (!line) return ["Nothing is drawn yet."];
    if (!inner) return [`${line} pixels of line, and nothing inside: the line is not closed. The network fills what it takes for the inside, or nothing.`];
    const grey = values.map((v) => v / last), shares = striped(grey, within, width);
    const best = Math.max(...shares), mean = grey.reduce((sum, v, i) => sum + v * within[i], 0) / inner;
    const meant = name === "gan" ? "The discriminator has learned to tell blur from stripes; any phase will do for it." : "Where a pixel is as often dark as light, every grey between costs the L1 error the same: nothing asks for stripes.";
    return [`${line} pixels of line, ${inner} inside. Of the inside, ${percent(best)} are striped (${NAMES[name]}); its mean is ${mean.toFixed(2)}, that of stripes 0.60.`, meant];
  }
  function show() {
    drawing = bits(model.get("drawing"));
    const name = model.get("network"), values = filled(name, model.get("seed")), within = inside(drawing, width);
    outline.paint(drawing);
    answer.paint(values.map((v) => v / last));
    const text = words(name, values, within);
    answerName.textContent = `Filled in: ${NAMES[name]}`;
    answer.canvas.setAttribute("aria-label", `What the network trained with ${NAMES[name]} makes of it. ${text[0]}`);
    const little = moved && (moved.mean < 2.5 ? "The noise hardly matters: nothing in the training rewards its use." : "Here the noise is felt.");
    told.replaceChildren(...[
      ...text,
      moved ? `New noise has moved a pixel by ${moved.mean.toFixed(1)} of ${last} grey levels on average, by ${moved.most} at most. ${little}` : "What does new noise change? Press the button.",
    ].map((line) => make("div", {}, [line])));
    choices.show();
    pens.show();
    start.value = outlines.indexOf(model.get("drawing"));
    aim();
  }

  // --- What the reader does
  function set(values, change = null) {
    moved = change;
    for (const [key, value] of Object.entries(values)) model.set(key, value);
    show();
    model.save_changes();
  }
  const draw = (text) => set({ drawing: text });
  const one = (text, i, value) => text.slice(0, i) + value + text.slice(i + 1);
  const cell = (a, b) => Math.min(width - 1, Math.floor(a)) + width * Math.min(height - 1, Math.floor(height - b));
  let stroke;
  plane.addEventListener("pointerdown", (event) => {  // a finger's stroke, which is only known as one when it has moved, begins here too
    const { left, top, width: w, height: h } = plane.getBoundingClientRect();
    stroke = [(width * (event.clientX - left)) / w, height - (height * (event.clientY - top)) / h];
  });
  draggable(plane, mark, [0, width, 0, height], {
    step: 1,
    where: () => [(at % width) + 0.5, height - 0.5 - Math.floor(at / width)],
    home: () => { at = home; aim(); },
    move: (a, b) => { at = cell(a, b); aim(); },
    put: (a, b) => {  // a quick stroke leaves no gap
      const [from, to] = [stroke, [a, b]], parts = Math.max(1, Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])));
      let text = model.get("drawing");
      for (let k = 0; k <= parts; k++) {
        at = cell(from[0] + (k / parts) * (to[0] - from[0]), from[1] + (k / parts) * (to[1] - from[1]));
        text = one(text, at, model.get("pen"));
      }
      stroke = to;
      if (text !== model.get("drawing")) draw(text);
      else aim();
    },
  });
  plane.addEventListener("keydown", (event) => {
    const pen = { Enter: model.get("pen"), " ": model.get("pen"), Delete: "0", Backspace: "0" }[event.key];
    if (pen === undefined) return;
    event.preventDefault();
    draw(one(model.get("drawing"), at, pen));
  });
  frame.addEventListener("keydown", (event) => event.key !== "Tab" && event.key !== "Escape" && event.stopPropagation());

  // A kernel that sets a name of the model sees the page follow.
  const watched = ["drawing", "network", "pen", "seed"].map((key) => [`change:${key}`, () => show()]);
  show();
  for (const [event, follow] of watched) model.on(event, follow);
  return () => { for (const [event, follow] of watched) model.off(event, follow); };
}

export default { render };
