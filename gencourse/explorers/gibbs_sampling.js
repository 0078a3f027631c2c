// A restricted Boltzmann machine that draws here, a unit, a side or a sweep at a time; pixels can be held fast. Runs with the
// state alone. `make`, `unpack` and `draggable` are plane.js's; random numbers, pictures and buttons are those of pixels.js.

const STYLE = `${PIXELS}
  .pictures { display: grid; grid-template-columns: 2fr 1fr; grid-template-rows: auto auto 1fr; gap: 0.2rem 1rem; max-width: 32rem; }
  .first { grid-row: 1 / span 5; }
  .plane { position: relative; cursor: crosshair; touch-action: pan-y; user-select: none; -webkit-user-select: none; }
  .plane:focus-visible { outline: 3px solid #0072b2; outline-offset: 3px; }
  .mark { position: absolute; box-sizing: border-box; border: 2px dashed #fff; outline: 2px solid #0072b2; touch-action: none; }
  .told { min-height: 4.2em; }
  .chart { width: 100%; height: 120px; display: block; font-size: 12px; overflow: visible; }
  @media (max-width: 36rem) { .told { min-height: 8.4em; } }
`;
const PACES = [[4, "4 units a second"], [-2, "2 sweeps a second"], [-20, "20 sweeps a second"], [-200, "200 sweeps a second"]];
const SHOWN = 200;  // sweeps in the chart

// The machine, and its chain. A turn is one unit's: hidden units first, then pixels, in order. Each turn takes one uniform number,
// also that of a pixel that is held, and the unit is on if the number is less than its probability.
export function machine({ weight, visible_bias, hidden_bias }) {
  const [w, b, c] = [weight, visible_bias, hidden_bias].map(unpack), pixels = b.length, hidden = c.length;
  const hiddenLogit = (v, j) => { let a = c[j]; for (let i = 0; i < pixels; i++) if (v[i]) a += w[i * hidden + j]; return a; };
  const visibleLogit = (h, i) => { let a = b[i]; for (let j = 0; j < hidden; j++) if (h[j]) a += w[i * hidden + j]; return a; };
  const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
  function freeEnergy(v) {
    let f = 0;
    for (let i = 0; i < pixels; i++) if (v[i]) f -= b[i];
    for (let j = 0; j < hidden; j++) f -= softplus(hiddenLogit(v, j));
    return f;
  }
  // From an image, or from a fair coin a pixel.
  const begin = (next, image) => ({
    next, turns: 0, last: null, h: new Uint8Array(hidden),
    v: image ? Uint8Array.from(image) : Uint8Array.from({ length: pixels }, () => Number(next() < 0.5)),
  });
  function turn(chain, temperature = 1, held = () => false) {
    const unit = chain.turns % (hidden + pixels), pixel = unit - hidden, u = chain.next();
    const p = sigmoid((pixel < 0 ? hiddenLogit(chain.v, unit) : visibleLogit(chain.h, pixel)) / temperature), on = Number(u < p);
    if (pixel < 0) chain.h[unit] = on;
    else if (!held(pixel)) chain.v[pixel] = on;
    chain.turns += 1;
    chain.last = { unit, p, u };
    return chain.turns % (hidden + pixels) === 0;  // a sweep is over
  }
  return { pixels, hidden, freeEnergy, begin, turn };
}

function render({ model, el }) {
  const network = machine(model.get("network")), { pixels, hidden } = network, sweep = pixels + hidden;
  const images = model.get("images").map(bits), known = model.get("known");
  const size = shape(model.get("height"), model.get("width")), { height, width } = size;
  const across = Math.ceil(Math.sqrt(hidden)), side = shape(Math.ceil(hidden / across), across);

  // --- What the chain has done
  let chain, sum, counted, energies, mode;
  const held = (i) => mode[i] !== ".";
  function hold() {  // what is held is so at once
    mode = model.get("held");
    for (let i = 0; i < pixels; i++) if (held(i)) chain.v[i] = Number(mode[i]);
  }
  function forget() { sum = new Float64Array(pixels); counted = 0; }
  function restart() {
    chain = network.begin(random(model.get("seed")), images[model.get("image")]);
    hold();
    forget();
    energies = [network.freeEnergy(chain.v)];
  }
  function advance(turns) {
    for (; turns > 0; turns--) {
      if (!network.turn(chain, model.get("temperature"), held)) continue;
      for (let i = 0; i < pixels; i++) sum[i] += chain.v[i];
      counted += 1;
      energies.push(network.freeEnergy(chain.v));
      if (energies.length > SHOWN) energies.shift();
    }
    show();
    save();
  }

  // --- What is seen
  const image = picture(size, { "aria-hidden": "true" }, 480), units = picture(side, { role: "img" }), mean = picture(size, { role: "img" });
  const mark = make("div", { class: "mark" });
  mark.style.width = `${100 / width}%`;
  mark.style.height = `${100 / height}%`;
  const plane = make("div", { class: "plane", tabindex: "0", role: "application", "aria-roledescription": "image to edit" }, [image.canvas, mark]);
  const name = (text) => make("div", { class: "name" }, [text]);
  const pictures = make("div", { class: "pictures" }, [
    make("div", { class: "first" }, [name("Pixels v"), plane]), name("Hidden units h"), units.canvas, name("Mean image"), mean.canvas,
  ]);
  const told = make("output", { class: "told", "aria-live": "polite" });
  const chart = draft("svg", { class: "chart", role: "img" });

  const pace = choice("Pace", PACES, () => {});
  pace.value = -20;
  const { play, stop } = clock(el, () => (pace.value > 0 ? Number(pace.value) : -pace.value * sweep), (n) => {
    advance(pace.value > 0 ? n : Math.max(1, Math.round(n / sweep)) * sweep - (chain.turns % sweep));  // whole sweeps
  }, told);
  const left = () => sweep - (chain.turns % sweep), rest = () => (left() > pixels ? left() - pixels : left());
  const step = (text, turns) => button(text, () => { stop(); advance(turns()); });
  const start = choice("What the chain begins with", [[-1, "begin with noise"], ...images.map((_, i) => [i, `begin with test digit ${i + 1}`])], (i) => set({ image: i }, restart));
  const drawing = make("div", { class: "row", role: "group", "aria-label": "Drawing" }, [
    play, step("one unit", () => 1), step("one side", rest), step("one sweep", left), pace,
  ]);
  const beginning = make("div", { class: "row", role: "group", "aria-label": "Beginning" }, [
    start, button("begin again", () => set({}, restart)), button("new numbers", () => set({ seed: (model.get("seed") + 1) % 2 ** 32 }, restart)),
  ]);
  const slider = make("input", { type: "range", min: 0.1, max: 3, step: 0.1, "aria-label": "Temperature" }), degrees = make("span", {});
  slider.addEventListener("input", () => set({ temperature: Number(slider.value) }, forget));
  const heat = make("div", { class: "row" }, [make("label", { style: "flex: 1" }, ["temperature", slider, degrees])]);
  const pens = radios(model, "hold pixels", "pen", [["1", "white"], ["0", "black"], [".", "let go"]], (pen) => set({ pen }));
  const all = (value) => Array.from({ length: pixels }, (_, i) => value(i)).join("");
  const holding = make("div", { class: "row" }, [
    pens.element,
    button("hold the upper half", () => keep(all((i) => (i < width * Math.floor(height / 2) ? String(chain.v[i]) : mode[i])))),
    button("let all go", () => keep(all(() => "."))),
  ]);
  const help = make("div", { class: "help" }, [
    "Draw on the pixels to hold them: the chain then draws the others, given these. With a finger, strokes go sideways, or begin "
    + "on the dashed frame. With the keyboard: focus the image, choose a pixel with the arrow keys, hold it with Enter, let it go "
    + "with Delete. One unit at a time or a whole side at once is the same chain: units of a side do not hear each other.",
  ]);
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  const frame = make("div", { class: "frame" }, [drawing, beginning, heat, holding, pictures, told, chart, help]);
  root.replaceChildren(make("style", {}, [STYLE]), frame);

  // Free energies: the digits' middle nine tenths as a band, the chain's as a line. What is much higher stays at the edge.
  function drawChart() {
    const [W, H, l, r, u, d] = [chart.clientWidth || 400, 120, 52, 8, 8, 20], { low, high, noise } = known;
    const bottom = low - 0.1 * (noise - low), top = high + 0.4 * (noise - high);
    const x = (k) => l + ((W - l - r) * k) / (SHOWN - 1), y = (f) => u + ((H - u - d) * (top - Math.min(top, Math.max(bottom, f)))) / (top - bottom);
    const text = (words, left, height, anchor) => draft("text", { x: left, y: height, "text-anchor": anchor, fill: "currentColor" }, [words]);
    const line = (f) => draft("line", { x1: l, x2: W - r, y1: y(f), y2: y(f), stroke: "currentColor", opacity: 0.3 });
    chart.setAttribute("viewBox", `0 0 ${W} ${H}`);
    chart.replaceChildren(
      draft("rect", { x: l, y: y(high), width: W - l - r, height: y(low) - y(high), fill: "#009e7355" }),
      line(top), text(signed(top, 0), l - 6, y(top) + 6, "end"),
      line(bottom), text(signed(bottom, 0), l - 6, y(bottom) + 2, "end"),
      text("digits", l - 6, (y(low) + y(high)) / 2 + 4, "end"),
      draft("polyline", { class: "trace", points: energies.map((f, k) => `${x(k).toFixed(1)},${y(f).toFixed(1)}`).join(" "), fill: "none", stroke: SIGN, "stroke-width": 1.8 }),
      draft("circle", { cx: x(energies.length - 1), cy: y(energies.at(-1)), r: 3.5, fill: SIGN }),
      text(`free energy F(v), the last ${SHOWN} sweeps`, (l + W - r) / 2, H - 4, "middle"),
    );
    chart.setAttribute("aria-label", `The free energy after each of the last sweeps; now ${signed(energies.at(-1))} nats. Nine tenths of the test digits lie between ${signed(low)} and ${signed(high)}; noise lies at ${signed(noise)} on average.`);
  }

  let at = 0;  // the keyboard's pixel
  function aim() {
    mark.style.left = `${(100 * (at % width)) / width}%`;
    mark.style.top = `${(100 * Math.floor(at / width)) / height}%`;
    plane.setAttribute("aria-label", `The image, at ${size.at(at)}: ${chain.v[at] ? "white" : "black"}, ${held(at) ? "held" : "free"}. The arrow keys choose a pixel, Enter holds it, Delete lets it go.`);
  }
  function show() {
    const { turns, last, v, h } = chain, sweeps = Math.floor(turns / sweep), fixed = [...mode].filter((m) => m !== ".").length;
    image.paint(v, (i) => held(i) && "pin");
    units.paint(Array.from(h, (on, j) => (turns > j ? on : null)), (j) => last?.unit === j && "frame");
    mean.paint(counted ? sum.map((s) => s / counted) : null);
    units.canvas.setAttribute("aria-label", `${h.reduce((n, on) => n + on, 0)} of ${hidden} hidden units are on.`);
    mean.canvas.setAttribute("aria-label", `The mean image of ${counted} sweeps since something was changed.`);
    const unit = last && (last.unit < hidden ? `hidden unit ${last.unit + 1}` : `the pixel in ${size.at(last.unit - hidden)}`);
    const did = () => (last.unit >= hidden && held(last.unit - hidden) ? "is held" : last.u < last.p ? "is on" : "is off");
    told.replaceChildren(...[
      `${sweeps} sweep${sweeps === 1 ? "" : "s"}${turns % sweep ? ` and ${turns % sweep} of ${sweep} units` : ""}; ${fixed} pixel${fixed === 1 ? " is" : "s are"} held; the mean is of ${counted}.`,
      last ? `Last was ${unit}: p = ${last.p.toFixed(3)}, u = ${last.u.toFixed(3)}, so it ${did()}.` : "Nothing is drawn yet.",
      `F(v) = ${signed(network.freeEnergy(v))} nats at temperature 1. Test digits: ${signed(known.mean)} on average; noise: ${signed(known.noise)}.`,
    ].map((text) => make("div", {}, [text])));
    const temperature = model.get("temperature");
    slider.value = temperature;
    degrees.textContent = temperature.toFixed(1);
    slider.setAttribute("aria-valuetext", `temperature ${temperature.toFixed(1)}`);
    start.value = model.get("image");
    pens.show();
    drawChart();
    aim();
  }

  // --- What the reader does
  function save() {
    model.set("x", chain.v.join(""));
    model.set("turns", chain.turns);
    model.save_changes();
  }
  function set(values, then = () => {}) {
    for (const [key, value] of Object.entries(values)) model.set(key, value);
    then();
    show();
    save();
  }
  const keep = (mask) => set({ held: mask }, () => { hold(); forget(); });
  const one = (mask, i, value) => mask.slice(0, i) + value + mask.slice(i + 1);
  const cell = (a, b) => Math.min(width - 1, Math.floor(a)) + width * Math.min(height - 1, Math.floor(height - b));
  let stroke = null;
  plane.addEventListener("pointerdown", () => { stroke = null; });
  draggable(plane, mark, [0, width, 0, height], {
    step: 1,
    where: () => [(at % width) + 0.5, height - 0.5 - Math.floor(at / width)],
    home: () => { at = 0; aim(); },
    move: (a, b) => { at = cell(a, b); aim(); },
    put: (a, b) => {  // a quick stroke leaves no gap
      const [from, to] = [stroke ?? [a, b], [a, b]], parts = Math.max(1, Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])));
      let mask = mode;
      for (let k = 0; k <= parts; k++) {
        at = cell(from[0] + (k / parts) * (to[0] - from[0]), from[1] + (k / parts) * (to[1] - from[1]));
        mask = one(mask, at, model.get("pen"));
      }
      stroke = to;
      if (mask !== mode) keep(mask);
      else aim();
    },
  });
  plane.addEventListener("keydown", (event) => {
    const pen = { Enter: model.get("pen"), " ": model.get("pen"), Delete: ".", Backspace: "." }[event.key];
    if (pen === undefined) return;
    event.preventDefault();
    keep(one(mode, at, pen));
  });
  frame.addEventListener("keydown", (event) => event.key !== "Tab" && event.key !== "Escape" && event.stopPropagation());
  const resize = new ResizeObserver(drawChart);

  // A kernel that sets a name of the model sees the page follow.
  const watched = { seed: restart, image: restart, held: () => { hold(); forget(); }, temperature: forget, pen: () => {} };
  const heard = Object.entries(watched).map(([key, then]) => [`change:${key}`, () => { then(); show(); }]);
  restart();
  show();
  resize.observe(frame);
  for (const [event, follow] of heard) model.on(event, follow);
  return () => {
    stop();
    resize.disconnect();
    for (const [event, follow] of heard) model.off(event, follow);
  };
}

export default { render };
