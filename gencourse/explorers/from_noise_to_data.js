// Diffusion models that run here, from noise to data, a step at a time: each state, and the data that the network takes it for.
// Runs with the state alone. `make` and `unpack` are plane.js's, pictures and numbers those of pixels.js, `linear` networks.js's.

const STYLE = `${PIXELS}
  .frame { max-width: 46rem; }
  .pictures { display: grid; grid-template-columns: 1fr 1fr; gap: 0.2rem 1rem; }
  .pictures > div { min-width: 0; }
  canvas.points { aspect-ratio: 1; }
  .time label { flex: 1 1 14rem; }
  .choices { display: flex; flex-wrap: wrap; gap: 0.2rem 1.4rem; align-items: center; }
  .choices label { display: flex; gap: 0.5rem; align-items: center; min-height: 1.8rem; }
  .wide { flex: 1 1 13rem; }
  .fixed { min-width: 1.8rem; font-variant-numeric: tabular-nums; }
  .told { min-height: 5.6em; }
  [hidden] { display: none !important; }
  @media (max-width: 36rem) { .digits.pictures { grid-template-columns: 1fr; } .told { min-height: 9.8em; } }
`;
const POINT = "#2a8cc8", TRAIL = "#d55e00", REACH = 6, TRAILS = 5, WAY = 6, BUDGET = 12, LASTS = 5;  // steps of a trail; milliseconds of work a frame; seconds of a play
const NONE = -1, EACH = -2;  // labels

// T = t_0 > t_1 > ... > 0, evenly spaced up to rounding.
export const levels = (T, steps) => Array.from({ length: steps + 1 }, (_, i) => T - Math.floor((i * T + Math.floor(steps / 2)) / steps));

// A Gaussian number of two uniform ones (Box and Muller).
export const gaussian = (next) => () => {
  const radius = Math.sqrt(-2 * Math.log(1 - next()));
  return radius * Math.cos(2 * Math.PI * next());
};

const silu = (h) => h.map((v) => v * sigmoid(v));
const plus = (a, b) => a.map((v, i) => v + b[i]);
function normed(h, { weight, bias }) {  // layer norm
  const mean = h.reduce((sum, v) => sum + v, 0) / h.length, variance = h.reduce((sum, v) => sum + (v - mean) ** 2, 0) / h.length;
  const scale = 1 / Math.sqrt(variance + 1e-5);
  return h.map((v, i) => (v - mean) * scale * weight[i] + bias[i]);
}

// The residual network: eps(x, t, label), and what a guided denoiser makes of it: { x0, eps }.
export function denoiser(sent) {
  const layer = ({ weight, bias }) => ({ weight: unpack(weight), bias: unpack(bias) });
  const { log_alpha_bar: logs, features, frequencies, classes } = sent, T = logs.length - 1, dim = sent.shape.reduce((a, b) => a * b, 1);
  const time = sent.time.map(layer), first = layer(sent.first), norm = layer(sent.norm), last = layer(sent.last);
  const blocks = sent.blocks.map((block) => Object.fromEntries(Object.entries(block).map(([name, part]) => [name, layer(part)])));
  const labels = sent.labels && unpack(sent.labels), waves = unpack(sent.waves), known = new Map();

  // What each block is told of the noise level and the class.
  function told(t, label) {
    const key = t * (classes + 1) + label + 1;
    if (!known.has(key)) {
      const half = features / 2, angles = Array.from({ length: half }, (_, i) => (t / T) * Math.exp(Math.log(1000) + ((Math.log(0.1) - Math.log(1000)) * i) / (half - 1)));
      let level = linear(silu(linear(Float64Array.from([...angles.map(Math.sin), ...angles.map(Math.cos)]), time[0])), time[1]);
      if (label >= 0) level = level.map((v, i) => v + labels[label * level.length + i]);
      known.set(key, blocks.map((block) => linear(level, block.level)));
    }
    return known.get(key);
  }
  function noise(x, t, label) {
    let input = x;
    if (frequencies) {
      input = new Float64Array(dim + 2 * frequencies);
      input.set(x);
      for (let k = 0; k < frequencies; k++) {
        let angle = 0;
        for (let i = 0; i < dim; i++) angle += x[i] * waves[i * frequencies + k];
        input[dim + k] = Math.sin(angle);
        input[dim + frequencies + k] = Math.cos(angle);
      }
    }
    const level = told(t, label);
    let h = linear(input, first);
    blocks.forEach((block, b) => {
      const inside = plus(linear(silu(normed(h, block.norm)), block.into), level[b]);
      h = plus(h, linear(silu(inside), block.out));
    });
    return linear(silu(normed(h, norm)), last);
  }
  // The data and the noise in x_t, as the guided network believes; the data of images lie in [-1, 1].
  function parts(x, t, label, weight) {
    let eps = noise(x, t, label);
    if (label !== NONE && weight !== 1) eps = noise(x, t, NONE).map((none, i) => none + weight * (eps[i] - none));
    const signal = Math.exp(logs[t] / 2), spread = Math.sqrt(-Math.expm1(logs[t]));
    let x0 = x.map((v, i) => (v - spread * eps[i]) / signal);
    if (sent.images) {
      x0 = x0.map((v) => Math.min(1, Math.max(-1, v)));
      eps = x.map((v, i) => (v - signal * x0[i]) / spread);
    }
    return { x0, eps };
  }
  return { T, dim, logs, noise, parts };
}

// All states of a walk, one after the other: { t, x, x0 }, each a list by example. Ancestral steps take a Gaussian number a
// coordinate, in order; the last one, and the steps of DDIM, take none.
export function* walk({ T, logs, parts }, { x, labels, weight, steps, sampler, normal }) {
  const times = levels(T, steps);
  for (let k = 0; k < steps; k++) {
    const [t, s] = [times[k], times[k + 1]], seen = x.map((one, n) => parts(one, t, labels[n], weight));
    yield { t, x, x0: seen.map(({ x0 }) => x0) };
    const gone = -Math.expm1(logs[t]), left = -Math.expm1(logs[s]), b = -Math.expm1(logs[t] - logs[s]);
    const toData = (Math.exp(logs[s] / 2) * b) / gone, toState = (Math.exp((logs[t] - logs[s]) / 2) * left) / gone, sigma = Math.sqrt((b * left) / gone);
    x = x.map((one, n) => {
      const { x0, eps } = seen[n];
      if (sampler === "DDIM") return x0.map((v, i) => Math.exp(logs[s] / 2) * v + Math.sqrt(left) * eps[i]);
      return x0.map((v, i) => toData * v + toState * one[i] + (s > 0 ? sigma * normal() : 0));
    });
  }
  yield { t: 0, x, x0: x };
}

// A square with data on the board that covers [-4, 4) x [-4, 4).
export const dark = ([a, b]) => a >= -4 && a < 4 && b >= -4 && b < 4 && (Math.floor(a / 2) + Math.floor(b / 2)) % 2 === 0;

function render({ model, el }) {
  const networks = Object.fromEntries(Object.entries(model.get("models")).map(([name, sent]) => [name, denoiser(sent)]));
  const { scale } = model.get("models").points, { classes } = model.get("models").digits;
  const size = shape(model.get("height"), model.get("width")), isPoints = () => model.get("data") === "points";
  const labelled = () => !isPoints() && model.get("label") !== NONE;

  // --- The walk, computed in the background
  let states, walking, stopped = false, visible = false, working = false;
  function restart() {
    const network = networks[model.get("data")], normal = gaussian(random(model.get("seed")));
    const count = isPoints() ? model.get("count") : classes;
    const labels = Array.from({ length: count }, (_, n) => (isPoints() ? NONE : model.get("label") === EACH ? n % classes : model.get("label")));
    const x = labels.map(() => Float64Array.from({ length: network.dim }, normal));
    states = [];
    walking = walk(network, { x, labels, weight: model.get("weight"), steps: model.get("steps"), sampler: model.get("sampler"), normal });
    model.set("at", Math.min(model.get("at"), model.get("steps")));
    states.push(walking.next().value);
    frame.setAttribute("aria-busy", "true");
    later();
  }
  const complete = () => states.length > model.get("steps");
  function later() {
    if (working || stopped) return;
    working = true;
    requestAnimationFrame(work);
  }
  function work() {
    working = false;
    if (!visible || stopped || complete()) return;
    const limit = performance.now() + BUDGET, had = states.length;
    do states.push(walking.next().value); while (!complete() && performance.now() < limit);
    if (complete()) frame.removeAttribute("aria-busy");
    else later();
    if (complete() || model.get("at") >= had) show();
  }
  const here = () => states[Math.min(model.get("at"), states.length - 1)];

  // --- What is seen
  const rows = Math.ceil(classes / 5), across = 5 * (size.width + 1) - 1, high = rows * (size.height + 1) - 1;
  const planes = ["state x\u209c", "guess x\u2080"].map((name) => ({
    name: make("div", { class: "name", "aria-hidden": "true" }, [name]),
    points: make("canvas", { class: "points", role: "img" }),
    digits: picture(shape(high, across), { role: "img" }, 8 * across),
  }));
  const pictures = make("div", { class: "pictures" }, planes.map(({ name, points, digits }) => make("div", {}, [name, points, digits.canvas])));
  const told = make("output", { class: "told", "aria-live": "polite" });

  function drawPoints({ points: canvas }, list, way) {
    const width = canvas.clientWidth || 300, ratio = window.devicePixelRatio || 1, context = canvas.getContext("2d");
    canvas.width = canvas.height = Math.round(width * ratio);
    context.scale(ratio, ratio);
    const to = ([a, b]) => [(width * (scale * a + REACH)) / (2 * REACH), (width * (REACH - scale * b)) / (2 * REACH)];
    context.fillStyle = "#8884";
    const side = width / REACH;  // of a square, two units
    for (let i = -2; i < 2; i++) for (let j = -2; j < 2; j++) if ((i + j) % 2 === 0) context.fillRect((width * (2 * i + REACH)) / (2 * REACH), (width * (REACH - 2 * j - 2)) / (2 * REACH), side, side);
    context.fillStyle = POINT;
    for (const place of list) {
      context.beginPath();
      context.arc(...to(place), 1.8, 0, 2 * Math.PI);
      context.fill();
    }
    context.strokeStyle = context.fillStyle = TRAIL;
    context.lineWidth = 1.4;
    for (let n = 0; n < Math.min(TRAILS, list.length); n++) {
      context.beginPath();
      for (const state of way) context.lineTo(...to(state.x[n]));
      context.stroke();
      context.beginPath();
      context.arc(...to(list[n]), 3.5, 0, 2 * Math.PI);
      context.fill();
    }
  }
  const spread = (list) => Array.from({ length: high * across }, (_, at) => {
    const i = Math.floor(at / across), j = at % across, one = 5 * Math.floor(i / (size.height + 1)) + Math.floor(j / (size.width + 1));
    const [row, column] = [i % (size.height + 1), j % (size.width + 1)];
    if (row === size.height || column === size.width || one >= list.length) return null;
    return Math.min(1, Math.max(0, (list[one][row * size.width + column] + 1) / 2));
  });
  function draw() {
    const { x, x0 } = here();
    planes.forEach((plane, k) => (isPoints() ? drawPoints(plane, k ? x0 : x, k ? [] : states.slice(Math.max(0, model.get("at") - WAY), model.get("at") + 1)) : plane.digits.paint(spread(k ? x0 : x))));
  }

  const slider = make("input", { type: "range", min: 0, step: 1, "aria-label": "Time, from noise to data" });
  slider.addEventListener("input", () => { stop(); go(Number(slider.value)); });
  const { play, stop } = clock(el, () => model.get("steps") / LASTS, (n) => {
    if (model.get("at") === model.get("steps")) return stop();
    return go(Math.min(model.get("at") + n, states.length - 1, model.get("steps")));
  }, told);
  play.addEventListener("click", () => { if (play.textContent === "pause" && model.get("at") === model.get("steps")) go(0); });
  const time = make("div", { class: "row time" }, [
    play, button("\u2039", () => { stop(); go(model.get("at") - 1); }, { "aria-label": "a step back" }),
    button("\u203a", () => { stop(); go(model.get("at") + 1); }, { "aria-label": "a step on" }),
    button("new noise", () => set({ seed: (model.get("seed") + 1) % 2 ** 32 })),
    make("label", {}, [make("span", {}, ["noise"]), slider, make("span", {}, ["data"])]),
  ]);
  const kinds = radios(model, "data", "data", [["points", "points"], ["digits", "digits"]], (data) => set({ data }));
  const ways = radios(model, "sampler", "sampler", [["DDIM", "DDIM"], ["ancestral", "ancestral"]], (sampler) => set({ sampler }));
  function range(name, attributes, changed) {
    const input = make("input", { type: "range", "aria-label": name, ...attributes }), says = make("span", { class: "fixed" });
    input.addEventListener("input", () => changed(Number(input.value)));
    return { input, says, element: make("label", { class: "wide" }, [name, input, says]) };
  }
  const many = range("steps", { min: 2, max: model.get("most"), step: 1 }, (steps) => {  // time stays where it is, as well as it can
    set({ at: Math.round((steps * model.get("at")) / model.get("steps")), steps });
  });
  const weight = range("guidance w", { min: 0, max: 5, step: 0.5 }, (w) => set({ weight: w }));
  const ask = choice("Class of the digits", [[EACH, "one of each class"], [NONE, "no label"], ...Array.from({ length: classes }, (_, c) => [c, `class ${c}`])], (label) => set({ label }));
  const conditions = make("div", { class: "choices" }, [ask, weight.element]);
  const help = make("div", { class: "help" });
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  const frame = make("div", { class: "frame" }, [
    make("div", { class: "choices" }, [kinds.element, ways.element, many.element]), conditions, time, pictures, told, help,
  ]);
  root.replaceChildren(make("style", {}, [STYLE]), frame);

  function apart(one, other, unit) {  // root mean square over coordinates
    let sum = 0, n = 0;
    one.forEach((v, k) => v.forEach((w, i) => { sum += (w - other[k][i]) ** 2; n += 1; }));
    return unit * Math.sqrt(sum / n);
  }
  function show() {
    const steps = model.get("steps"), at = Math.min(model.get("at"), states.length - 1), { t, x, x0 } = here(), { T, logs } = networks[model.get("data")];
    pictures.className = `pictures ${model.get("data")}`;
    conditions.hidden = isPoints();
    weight.element.hidden = !labelled();
    for (const { points, digits } of planes) { points.hidden = !isPoints(); digits.canvas.hidden = isPoints(); }
    draw();
    kinds.show();
    ways.show();
    slider.max = steps;
    slider.value = at;
    many.input.value = steps;
    many.says.textContent = steps;
    weight.input.value = model.get("weight");
    weight.says.textContent = model.get("weight").toFixed(1);
    ask.value = model.get("label");
    const [signal, noise] = [Math.exp(logs[t] / 2), Math.sqrt(-Math.expm1(logs[t]))], evaluations = at * (labelled() && model.get("weight") !== 1 ? 2 : 1);
    const lines = [`Step ${at} of ${steps}: t = ${t} of ${T}. x\u209c is ${signal.toFixed(2)} times data and ${noise.toFixed(2)} times noise; so far ${evaluations} evaluation${evaluations === 1 ? "" : "s"} of the network for each example.`];
    if (isPoints()) {
      const share = (list) => `${Math.round((100 * list.filter((p) => dark([scale * p[0], scale * p[1]])).length) / list.length)} %`;
      lines.push(`On the shaded squares lie ${share(x)} of the states, and ${share(x0)} of the guesses.`);
    }
    const unit = isPoints() ? scale : 1;
    lines.push(!complete() ? "The way to the end: being computed \u2026" : t === 0 ? "This is the end: the last guess itself." : `The guess is still ${apart(x0, states.at(-1).x, unit).toFixed(2)} away from what comes out in the end, the state ${apart(x, states.at(-1).x, unit).toFixed(2)} (root mean square).`);
    told.replaceChildren(...lines.map((text) => make("div", {}, [text])));
    slider.setAttribute("aria-valuetext", `step ${at} of ${steps}, t = ${t}`);
    many.input.setAttribute("aria-valuetext", `${steps} steps`);
    weight.input.setAttribute("aria-valuetext", `guidance weight ${model.get("weight").toFixed(1)}`);
    const what = isPoints() ? `${x.length} points` : `${x.length} digits, ${model.get("label") === EACH ? "one of each class" : model.get("label") === NONE ? "of no class" : `of class ${model.get("label")}`}`;
    planes.forEach(({ points, digits }, k) => [points, digits.canvas].forEach((canvas) => canvas.setAttribute("aria-label", `${what}: ${k ? "the guess" : "the state"} at step ${at} of ${steps}.`)));
    help.textContent = isPoints()
      ? "The guess is the data that the network takes a state for. Shaded squares are where data lie. Five points are marked, with their last steps. DDIM adds no noise, so that the first noise decides where a point ends; the ancestral sampler adds noise at each step but the last."
      : "The guess is the image that the network takes a state for. Black is \u22121 and white 1, also for what lies beyond, as much of the noise does. w = 0 leaves the label out, 1 draws from p(x | y), more asks for more of the class than that. Other steps, samplers and weights begin with the same noise.";
  }

  // --- What the reader does
  function go(at) {
    model.set("at", Math.min(model.get("steps"), Math.max(0, at)));
    show();
    later();
    model.save_changes();
  }
  function set(values) {
    stop();
    for (const [key, value] of Object.entries(values)) model.set(key, value);
    restart();
    show();
    model.save_changes();
  }
  frame.addEventListener("keydown", (event) => event.key !== "Tab" && event.key !== "Escape" && event.stopPropagation());
  const resize = new ResizeObserver(() => isPoints() && draw());
  const seen = new IntersectionObserver((entries) => {  // nothing is computed for a picture that nobody sees
    visible = entries.at(-1).isIntersecting;
    if (visible) later();
  }, { rootMargin: "200px" });
  restart();
  show();
  resize.observe(frame);
  seen.observe(frame);

  // A kernel that sets a name of the model sees the page follow.
  const watched = ["data", "sampler", "steps", "label", "weight", "seed"].map((name) => `change:${name}`), again = () => { restart(); show(); };
  for (const event of watched) model.on(event, again);
  model.on("change:at", show);
  return () => {
    stopped = true;
    stop();
    resize.disconnect();
    seen.disconnect();
    for (const event of watched) model.off(event, again);
    model.off("change:at", show);
  };
}

export default { render };
