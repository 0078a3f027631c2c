// A continuous flow of the plane: points follow its field by the solver and the steps that the reader chooses, in either
// direction, and are compared with a fine solve. Runs with the state alone. `make`, `unpack` and `draggable` are plane.js's.

const STYLE = `
  .frame { font: 0.9rem/1.4 system-ui, sans-serif; margin: 0.5rem 0 1rem; padding: 0 6px; text-align: start; max-width: 46rem; display: grid; gap: 0.5rem; }
  .time, .choices { display: flex; flex-wrap: wrap; gap: 0.4rem 0.6rem; align-items: center; }
  .time label { display: flex; gap: 0.5rem; align-items: center; flex: 1 1 14rem; }
  input[type=range] { flex: 1; min-width: 6rem; accent-color: #0072b2; height: 1.8rem; margin: 0; touch-action: pan-y; }
  button { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor; border-radius: 0.4rem; padding: 0.3rem 0.6rem; min-height: 2.1rem; min-width: 2.1rem; cursor: pointer; }
  :is(button, input):focus-visible { outline: 3px solid #d55e00; outline-offset: 2px; }
  .choices { gap: 0.3rem 1.4rem; }
  .group { display: flex; flex-wrap: wrap; gap: 0.1rem 0.7rem; align-items: center; }
  .group label { display: flex; gap: 0.3rem; align-items: center; min-height: 1.8rem; cursor: pointer; }
  .group input { margin: 0; width: 1rem; height: 1rem; accent-color: #0072b2; }
  .group span { font-weight: 600; }
  .now { font-weight: 600; font-variant-numeric: tabular-nums; }
  .pictures { display: grid; grid-template-columns: 1fr 1fr; gap: 0.5rem 1.2rem; align-items: start; }
  .plane { position: relative; aspect-ratio: 1; touch-action: pan-y; cursor: crosshair; user-select: none; -webkit-user-select: none; outline: 1px solid #8888; overflow: hidden; }
  .plane:focus-visible { outline: 3px solid #0072b2; outline-offset: 2px; }
  .plane canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
  .chart { width: 100%; font-size: 12px; overflow: visible; }
  .mark { position: absolute; width: 16px; height: 16px; margin: -8px 0 0 -8px; border-radius: 50%; box-sizing: border-box;
          border: 3px solid #fff; outline: 2px solid #d55e00; box-shadow: 0 0 0 4px #0008; touch-action: none; }
  .mark::after { content: ""; position: absolute; inset: -17px; border-radius: 50%; }
  .name { font-size: 0.9em; margin-bottom: 0.2rem; }
  .right { display: grid; gap: 0.5rem; }
  output { font-variant-numeric: tabular-nums; display: grid; gap: 0.2rem; }
  .told { min-height: 4.2em; }
  .found { min-height: 7em; }
  .help { opacity: 0.85; font-size: 0.9em; }
  @media (max-width: 36rem) { .pictures { grid-template-columns: 1fr; } }
`;
// Colours that have a contrast of 3 or more on white and on black.
const POINT = "#2a8cc8", FAINT = "#808080", OFF = "#d55e00", TRUE = "#009e73", SERIES = { Euler: "#d55e00", midpoint: "#2a8cc8", RK4: "#009e73" };
const STEPS = [1, 2, 4, 8, 16, 32], FINE = 64;  // of RK4, for the fine solve
const ARROWS = 15, BUDGET = 12, LASTS = 5000;  // arrows a side; milliseconds of work a frame; of a run from end to end
const TOP = 1, BOTTOM = -6;  // the powers of ten at the ends of the chart

// Explicit methods in which each look at the field starts from the look before: at what part of the step, and its weight.
const SOLVERS = {
  Euler: [[0, 1]],
  midpoint: [[0, 0], [1 / 2, 1]],
  RK4: [[0, 1 / 6], [1 / 2, 1 / 3], [1 / 2, 1 / 3], [1, 1 / 6]],
};

// The field, and points that follow it. A state is [a, b, c]: the place, and the integral of the trace so far.
export function flow(layers) {
  const ready = layers.map(({ weight, bias }) => ({ weight: unpack(weight), bias: unpack(bias) }));
  const rooms = ready.map(({ bias }) => [0, 1, 2].map(() => new Float64Array(bias.length)));

  // f(t, z), and the trace of its Jacobian by the chain rule in both directions of the plane.
  function ask(t, a, b, traced = true) {
    let x = [a, b, t], d = [1, 0, 0], e = [0, 1, 0];
    ready.forEach(({ weight, bias }, l) => {
      const [y, by, cy] = rooms[l], inputs = x.length, last = l === ready.length - 1;
      for (let row = 0, i = 0; row < y.length; row++, i += inputs) {
        let sum = bias[row], p = 0, q = 0;
        for (let j = 0; j < inputs; j++) sum += weight[i + j] * x[j];
        y[row] = last ? sum : Math.tanh(sum);
        if (!traced) continue;
        for (let j = 0; j < inputs; j++) {
          p += weight[i + j] * d[j];
          q += weight[i + j] * e[j];
        }
        const slope = last ? 1 : 1 - y[row] * y[row];
        by[row] = slope * p;
        cy[row] = slope * q;
      }
      [x, d, e] = [y, by, cy];
    });
    return [x[0], x[1], traced ? d[0] + e[1] : 0];
  }

  function step([a, b, c], t, h, solver, traced = true) {
    let k = [0, 0, 0], sum = [0, 0, 0];
    for (const [part, share] of SOLVERS[solver]) {
      k = ask(t + part * h, a + part * h * k[0], b + part * h * k[1], traced);
      sum = sum.map((v, i) => v + share * k[i]);
    }
    return [a + h * sum[0], b + h * sum[1], c + h * sum[2]];
  }

  // From `start`, 0 or 1, to the other end: the state after each step, three numbers a state.
  function nodes([a, b], start, solver, steps, traced = true) {
    const h = (start ? -1 : 1) / steps, way = new Float64Array(3 * (steps + 1));
    let state = [a, b, 0];
    for (let k = 0; k <= steps; k++) {
      way.set(state, 3 * k);
      if (k < steps) state = step(state, start + k * h, h, solver, traced);
    }
    return way;
  }

  // The state at time t on this way: whole steps, and then a shorter one.
  function at(way, start, t, solver, steps, traced = true) {
    const h = (start ? -1 : 1) / steps, whole = Math.floor(Math.abs(t - start) * steps + 1e-9), begun = start + whole * h;
    const state = [...way.subarray(3 * whole, 3 * whole + 3)];
    return Math.abs(t - begun) < 1e-9 ? state : step(state, begun, t - begun, solver, traced);
  }
  const end = (way) => [...way.subarray(way.length - 3)];
  return { ask, step, nodes, at, end };
}

// log p(x) of a way from end to end, in nats: the prior at t = 1, the integral, and what was done to the data before.
export function density(way, start, before) {
  const [a, b, c] = [...way.subarray(way.length - 3)], [z1, z2] = start ? way : [a, b];
  return -(z1 * z1 + z2 * z2) / 2 - Math.log(2 * Math.PI) + (start ? -c : c) + before;
}

function render({ model, el }) {
  const { ask, step, nodes, at, end } = flow(model.get("layers")), reach = model.get("reach"), before = model.get("log_det");
  const pairs = (packed) => { const v = unpack(packed); return Array.from({ length: v.length / 2 }, (_, i) => [v[2 * i], v[2 * i + 1]]); };
  const begin = [pairs(model.get("points")), pairs(model.get("noise"))];  // by the time at which they start
  const start = () => (model.get("direction") === "to noise" ? 0 : 1);
  const sign = (text) => text.replace("-", "\u2212");
  const format = (v) => { const text = v.toFixed(2); return sign(Number(text) ? text : text.replace("-", "")); };
  const short = (v) => sign(v.toPrecision(2));
  const pair = ([a, b]) => `(${format(a)}, ${format(b)})`;
  const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  const apart = ([a, b], [c, d]) => Math.hypot(a - c, b - d);

  const slider = make("input", { type: "range", min: 0, max: 1, step: 0.01, "aria-label": "Time t" });
  const button = (text, name, action) => {
    const element = make("button", { type: "button", "aria-label": name }, [text]);
    element.addEventListener("click", action);
    return element;
  };
  const node = (by) => {  // the solver's next or previous time
    const steps = model.get("steps"), k = model.get("t") * steps;
    go((by > 0 ? Math.floor(k + 1e-6) + 1 : Math.ceil(k - 1e-6) - 1) / steps);
  };
  const play = button("play", "play", () => (timer ? pause() : run()));
  const time = make("div", { class: "time" }, [
    make("label", {}, [make("span", {}, ["data"]), slider, make("span", {}, ["noise"])]),
    button("\u2039", "a step towards the data", () => node(-1)),
    button("\u203a", "a step towards the noise", () => node(1)),
    play,
  ]);
  const now = make("div", { class: "now" });

  function group(name, key, options) {
    const inputs = options.map(([value, text]) => {
      const input = make("input", { type: "radio", name: key, value });
      input.addEventListener("change", () => choose(key, value));
      return { value, input, label: make("label", {}, [input, text]) };
    });
    const element = make("div", { class: "group", role: "radiogroup", "aria-label": name }, [make("span", { "aria-hidden": "true" }, [name]), ...inputs.map(({ label }) => label)]);
    return { element, show: () => inputs.forEach(({ value, input }) => { input.checked = value === model.get(key); }) };
  }
  const groups = [
    group("from", "direction", [["to noise", "data to noise"], ["to data", "noise to data"]]),
    group("solver", "solver", Object.keys(SOLVERS).map((name) => [name, name])),
    group("steps", "steps", STEPS.map((n) => [n, String(n)])),
  ];

  const picture = make("canvas", { class: "points", "aria-hidden": "true" }), mark = make("div", { class: "mark" });
  const plane = make("div", {
    class: "plane", tabindex: "0", role: "application", "aria-roledescription": "two-dimensional slider",
    "aria-label": "The plane at time t. The arrow keys move the ring, with Shift in larger steps; Home brings it back.",
  }, [picture, mark]);
  const draft = (tag, attributes, children = []) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const chart = draft("svg", { class: "chart", role: "img", viewBox: "0 0 360 266", "aria-label": "Distance from the fine solve against evaluations of the field." });
  const told = make("output", { class: "told", "aria-live": "polite" }), found = make("output", { class: "found", "aria-live": "polite" });
  const titled = (name, ...children) => make("div", {}, [make("div", { class: "name", "aria-hidden": "true" }, [name]), ...children]);
  const frame = make("div", { class: "frame", "aria-busy": "true" }, [
    make("div", { class: "choices" }, groups.map(({ element }) => element)),
    time,
    now,
    make("div", { class: "pictures" }, [
      titled("the points now, and which way they go", plane),
      make("div", { class: "right" }, [titled("distance from the fine solve at the end, over evaluations", chart)]),
      told,
      found,
    ]),
    make("div", { class: "help" }, [
      `Each dot is where your solver has a point; a red line leads from it to where the fine solve, RK4 with ${FINE} steps, has the same point. `
      + "The ring is where the fine solve has yours: drag it, or focus the picture and use the arrow keys. The green way is the fine one, the red way your solver's.",
    ]),
  ]);
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  root.replaceChildren(make("style", {}, [STYLE]), frame);

  // Ways of all points, by direction, solver and steps; computed in the background, a point at a time.
  const runs = new Map();
  function waysOf(from, solver, steps) {
    const key = `${from} ${solver} ${steps}`;
    if (!runs.has(key)) runs.set(key, { from, solver, steps, ways: [], back: 0 });
    return runs.get(key);
  }
  const mine = () => waysOf(start(), model.get("solver"), model.get("steps"));
  const fine = (from = start()) => waysOf(from, "RK4", FINE);
  const complete = (run) => run.ways.length === begin[run.from].length;
  function* wanted() {
    yield mine();
    yield fine();
    for (const steps of STEPS) for (const solver of Object.keys(SOLVERS)) yield waysOf(start(), solver, steps);
  }
  function add(run) {
    const { from, solver, steps, ways } = run, first = begin[from][ways.length];
    const way = nodes(first, from, solver, steps);
    if (steps < FINE) run.back += apart(end(nodes(end(way), 1 - from, solver, steps, false)), first);
    ways.push(way);
  }
  const mean = (values) => values.reduce((sum, v) => sum + v, 0) / values.length;
  function score(run) {  // once, when all its points are there, and the fine solve's
    if (!run.nats && complete(run)) {
      run.nats = -mean(run.ways.map((way) => density(way, run.from, before)));
      run.back /= run.ways.length;
    }
    const truth = fine(run.from);
    if (run.off === undefined && complete(run) && complete(truth)) run.off = mean(run.ways.map((way, i) => apart(end(way), end(truth.ways[i]))));
    return run;
  }

  let working = false, visible = false, stopped = false;
  function work() {
    working = false;
    if (!visible || stopped) return;
    const limit = performance.now() + BUDGET;
    for (const run of wanted()) {
      while (!complete(run) && performance.now() < limit) add(run);
      if (!complete(run)) {
        if (run === mine() || run === fine()) draw();
        drawChart();
        return later();
      }
      score(run);
    }
    frame.removeAttribute("aria-busy");
    draw();
    drawChart();
    report();
  }
  function later() {
    if (working || stopped) return;
    working = true;
    report();
    requestAnimationFrame(work);
  }

  const yours = { fine: null, own: null };  // the ring's way by the fine solve and by the reader's, in the direction chosen
  function trace() {
    const forth = nodes(model.get("x"), 0, "RK4", FINE);
    yours.fine = start() ? nodes(end(forth), 1, "RK4", FINE) : forth;
    yours.own = nodes(yours.fine, start(), model.get("solver"), model.get("steps"));
  }
  const ring = () => at(yours.fine, start(), model.get("t"), "RK4", FINE);

  function draw() {
    const width = picture.clientWidth, ratio = window.devicePixelRatio || 1, context = picture.getContext("2d");
    picture.width = picture.height = Math.round(width * ratio);
    context.scale(ratio, ratio);
    const from = start(), t = model.get("t"), [solver, steps] = [model.get("solver"), model.get("steps")];
    const to = ([a, b]) => [(width * (a + reach)) / (2 * reach), (width * (reach - b)) / (2 * reach)];
    const line = (places) => { context.beginPath(); places.forEach((place) => context.lineTo(...to(place))); context.stroke(); };
    context.strokeStyle = FAINT;
    for (let i = 0; i < ARROWS * ARROWS; i++) {  // how far the field goes in a fifteenth of the whole time
      const a = reach * ((2 * (i % ARROWS) + 1) / ARROWS - 1), b = reach * ((2 * Math.floor(i / ARROWS) + 1) / ARROWS - 1);
      const [u, v] = ask(t, a, b, false).map((w) => (from ? -w : w) / ARROWS), tip = [a + u, b + v], length = Math.hypot(u, v);
      line([[a, b], tip]);
      if (length < 0.02) continue;
      const head = Math.min(0.08, length / 2) / length;
      line([[tip[0] - head * (u + v / 2), tip[1] - head * (v - u / 2)], tip, [tip[0] - head * (u - v / 2), tip[1] - head * (v + u / 2)]]);
    }
    const run = mine(), truth = fine().ways, exact = Math.abs(t - from) * FINE, k = Math.min(FINE - 1, Math.floor(exact));
    const places = run.ways.map((way) => at(way, from, t, solver, steps, false));
    context.strokeStyle = OFF;
    context.lineWidth = 1.2;
    places.slice(0, truth.length).forEach((place, i) => {  // between two of the fine solve's places a straight line will do
      const [a, b, , c, d] = truth[i].subarray(3 * k, 3 * k + 5), u = exact - k;
      line([place, [a + u * (c - a), b + u * (d - b)]]);
    });
    context.fillStyle = POINT;
    for (const place of places) {
      context.beginPath();
      context.arc(...to(place), 2, 0, 2 * Math.PI);
      context.fill();
    }
    const states = (way) => Array.from({ length: way.length / 3 }, (_, i) => way.subarray(3 * i, 3 * i + 2));
    context.lineWidth = 1.5;
    context.strokeStyle = TRUE;
    line(states(yours.fine));
    context.strokeStyle = OFF;
    context.lineWidth = 2;
    line(states(yours.own));
    const own = to(at(yours.own, from, t, solver, steps, false));
    context.fillStyle = OFF;
    context.beginPath();
    context.arc(...own, 4, 0, 2 * Math.PI);
    context.fill();
  }

  // Both axes are logarithmic. Lines and letters take the page's colour.
  function drawChart() {
    const [l, r, u, d, W, H] = [40, 64, 10, 36, 360, 266], from = start();
    const x = (evaluations) => l + ((W - l - r) * Math.log2(evaluations)) / 7;
    const y = (off) => u + ((H - u - d) * (TOP - Math.min(TOP, Math.max(BOTTOM, Math.log10(off))))) / (TOP - BOTTOM);
    const parts = [];
    const text = (words, left, top, anchor) => parts.push(draft("text", { x: left, y: top, "text-anchor": anchor, fill: "currentColor" }, [words]));
    const line = (points, colour, width) => parts.push(draft("polyline", { points: points.map((p) => p.join()).join(" "), fill: "none", stroke: colour, "stroke-width": width }));
    for (const n of [1, 2, 4, 8, 16, 32, 64, 128]) {
      line([[x(n), u], [x(n), H - d]], "#8886", 1);
      text(n, x(n), H - d + 15, "middle");
    }
    text("evaluations of the field", (l + W - r) / 2, H - 4, "middle");
    for (const [power, words] of [[0, "1"], [-2, "0.01"], [-4, "10\u207b\u2074"], [-6, "10\u207b\u2076"]]) {
      line([[l, y(10 ** power)], [W - r, y(10 ** power)]], "#8886", 1);
      text(words, l - 6, y(10 ** power) + 4, "end");
    }
    for (const [solver, colour] of Object.entries(SERIES)) {
      const ready = STEPS.map((steps) => score(waysOf(from, solver, steps))).filter(({ off }) => off !== undefined);
      const dots = ready.map(({ steps, off }) => [x(steps * SOLVERS[solver].length), y(off)]), last = dots.at(-1);
      line(dots, colour, 1.5);
      for (const [cx, cy] of dots) parts.push(draft("circle", { cx, cy, r: 3, fill: colour }));
      if (last) text(solver, last[0] + 8, last[1] + 4, "start");
    }
    const { solver, steps, off } = mine();
    if (off !== undefined) parts.push(draft("circle", { class: "chosen", cx: x(steps * SOLVERS[solver].length), cy: y(off), r: 7, fill: "none", stroke: "currentColor", "stroke-width": 2 }));
    chart.replaceChildren(...parts);
  }

  const lines = (output, texts) => output.replaceChildren(...texts.map((text) => make("div", {}, [text])));
  function tell() {
    const from = start(), t = model.get("t"), [solver, steps] = [model.get("solver"), model.get("steps")];
    const each = SOLVERS[solver].length, gone = Math.ceil(Math.abs(t - from) * steps - 1e-9);
    const here = ring(), own = at(yours.own, from, t, solver, steps, false);
    mark.style.left = `${50 * (1 + here[0] / reach)}%`;
    mark.style.top = `${50 * (1 - here[1] / reach)}%`;
    slider.value = t;
    now.textContent = `t = ${t.toFixed(2)}: ${gone} of ${plural(steps, "step")}, ${gone * each} of ${plural(steps * each, "evaluation")} of the field`;
    slider.setAttribute("aria-valuetext", now.textContent);
    const [by, right] = [yours.own, yours.fine].map((way) => density(way, from, before));
    lines(told, [
      `The ring is at ${pair(here)}; your solver has it at ${pair(own)}, ${short(apart(here, own))} away.`,
      `Its log p(x) is ${format(by)} nats by your solver, ${format(right)} by the fine one.`,
    ]);
    groups.forEach(({ show }) => show());
  }
  function report() {
    const { nats, back, off } = mine(), truth = fine();
    if (off === undefined || !complete(truth)) return lines(found, ["All points: on their way \u2026"]);
    const goal = start() ? "data" : "noise";
    chart.setAttribute("aria-label", `Distance from the fine solve against evaluations of the field, falling for Euler, midpoint and RK4, each more steeply than the one before. Your choice: ${short(off)}.`);
    lines(found, [
      `All ${begin[start()].length} points: at the end, in the ${goal}, they are ${short(off)} away from where the fine solve has them, on average. The same steps back miss their beginnings by ${short(back)}.`,
      `The mean of \u2212log p(x) is ${format(nats)} nats by your solver, ${format(score(truth).nats)} by the fine one.`,
    ]);
  }

  function go(t) {
    model.set("t", Math.min(1, Math.max(0, t)));
    tell();
    draw();
    model.save_changes();
  }
  function choose(key, value) {
    pause();
    model.set(key, value);
    if (key === "direction") model.set("t", start());
    refresh();
    model.save_changes();
  }
  function refresh() {
    trace();
    tell();
    draw();
    frame.setAttribute("aria-busy", "true");
    later();
  }
  const home = [...model.get("x")];
  function move(x) {
    if (!x.every(Number.isFinite)) return;
    model.set("x", x);
    trace();
    tell();
    draw();
    model.save_changes();
  }

  let timer = 0;
  function pause() {
    cancelAnimationFrame(timer);
    timer = 0;
    play.textContent = "play";
    play.setAttribute("aria-label", "play");
  }
  function run() {
    const from = start(), first = model.get("t") === 1 - from ? from : model.get("t"), begun = performance.now();
    play.textContent = "stop";
    play.setAttribute("aria-label", "stop");
    (function next() {
      const gone = (performance.now() - begun) / LASTS, t = from ? first - gone : first + gone;
      go(t);
      if (t <= 0 && from || t >= 1 && !from || stopped) return pause();
      timer = requestAnimationFrame(next);
    })();
  }

  slider.addEventListener("input", () => { pause(); go(Number(slider.value)); });
  slider.addEventListener("keydown", (event) => {
    const by = { PageUp: 1, PageDown: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    pause();
    node(by);
  });
  draggable(plane, mark, [-reach, reach, -reach, reach], {
    where: ring,
    home: () => move([...home]),
    put: (a, b) => {  // the x that comes there, by the fine field run backwards
      const t = model.get("t"), n = Math.max(1, Math.ceil(FINE * t));
      let state = [a, b, 0];
      for (let k = 0; k < n && t > 0; k++) state = step(state, t * (1 - k / n), -t / n, "RK4", false);
      move(state.slice(0, 2));
    },
  });
  frame.addEventListener("keydown", (event) => event.key !== "Tab" && event.key !== "Escape" && event.stopPropagation());

  const resize = new ResizeObserver(draw);
  resize.observe(plane);
  const seen = new IntersectionObserver((entries) => {  // nothing is computed for a picture that nobody sees
    visible = entries.at(-1).isIntersecting;
    if (visible) later();
  }, { rootMargin: "200px" });
  seen.observe(frame);
  refresh();
  const watched = ["t", "x", "direction", "solver", "steps"].map((name) => `change:${name}`);
  for (const name of watched) model.on(name, refresh);
  return () => {
    stopped = true;
    pause();
    resize.disconnect();
    seen.disconnect();
    for (const name of watched) model.off(name, refresh);
  };
}

export default { render };
