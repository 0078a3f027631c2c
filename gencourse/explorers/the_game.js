// A small GAN that trains in the page: choose the data, the loss and k, and watch the generated points find the real ones.
// Runs with the state alone, no network. Text takes the page's colour, so it follows light and dark themes.

const STYLE = `
  .frame { font: 0.9rem/1.4 system-ui, sans-serif; margin: 0.5rem 0 1rem; max-width: 44rem; display: grid; gap: 0.7rem; }
  .pictures { display: flex; flex-wrap: wrap; gap: 0.6rem 1.2rem; }
  .plane { flex: 1 1 17rem; max-width: 25rem; }
  .side { flex: 1 1 15rem; display: flex; flex-direction: column; gap: 0.5rem; min-width: 0; }
  canvas { display: block; width: 100%; outline: 1px solid #8888; box-sizing: border-box; }
  .plane canvas { aspect-ratio: 1; }
  .losses canvas { height: 7.5rem; }
  .range { display: flex; justify-content: space-between; gap: 0.6rem; font-size: 0.85em; font-variant-numeric: tabular-nums; }
  .controls { display: flex; flex-wrap: wrap; gap: 0.4rem; align-items: center; }
  .settings { display: grid; grid-template-columns: auto 1fr; gap: 0.3rem 0.6rem; align-items: center; }
  button, select { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor; border-radius: 0.4rem; padding: 0.3rem 0.6rem; min-height: 2.1rem; min-width: 0; cursor: pointer; }
  option { color: #000; background: #fff; }
  button.play { min-width: 4.5rem; background: #0072b2; border-color: #0072b2; color: #fff; }
  :is(button, select):focus-visible { outline: 3px solid #d55e00; outline-offset: 2px; }
  output { font-variant-numeric: tabular-nums; min-height: 2.8em; }
  @media (max-width: 36rem) { output { min-height: 4.2em; } }
  ul { list-style: none; margin: 0.3rem 0 0; padding: 0; font-size: 0.9em; display: flex; flex-wrap: wrap; gap: 0 1rem; }
  li::before { content: attr(data-sign); color: var(--colour); font-weight: 700; margin-right: 0.35em; }
  .help { opacity: 0.85; font-size: 0.9em; }
`;
// Each has a contrast of 3 or more on white and on black; the signs differ too.
const REAL = "#2a8cc8", MADE = "#d55e00", JUDGE = "#8d62c4", LINE = "#808080";
const BUDGET = 10;  // milliseconds of training a frame, so that the page stays responsive
const SLOW = 33;  // milliseconds: a frame that took longer is followed by one without drawing
const LIMIT = 5000;  // rounds for one press of start: nobody's battery is emptied by a page left open
const QUIET = 200;  // rounds for one press where the reader asked for no motion

const SLOPE = 0.2;  // of the leaky ReLU; piecewise linear, so that the penalty's gradient needs no second derivative

// mulberry32: uniform numbers in [0, 1) from 32 bits of state, and normal ones from two of them each.
export function generator(seed) {
  let state = seed | 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return { uniform, normals: (n) => Float64Array.from({ length: n }, normal) };
}

// A fully connected network. Its parameters are one array: for each layer W (outputs x inputs), then b.
export function network(sizes, random) {
  let length = 0;
  const layers = sizes.slice(1).map((outputs, l) => {
    const inputs = sizes[l], W = length, b = W + inputs * outputs;
    length = b + outputs;
    return { inputs, outputs, W, b, last: l === sizes.length - 2 };
  });
  const theta = new Float64Array(length);
  for (const { inputs, W, b, outputs } of layers) {  // uniform within 1 / sqrt(inputs)
    for (let i = W; i < b + outputs; i++) theta[i] = (2 * random.uniform() - 1) / Math.sqrt(inputs);
  }

  // x (n x inputs) -> what every layer gives, x itself first.
  function forward(x, n) {
    const trace = [x];
    for (const { inputs, outputs, W, b, last } of layers) {
      const from = trace[trace.length - 1], to = new Float64Array(n * outputs);
      for (let i = 0; i < n; i++) {
        for (let o = 0; o < outputs; o++) {
          let sum = theta[b + o];
          for (let j = 0, w = W + o * inputs, f = i * inputs; j < inputs; j++) sum += theta[w + j] * from[f + j];
          to[i * outputs + o] = last || sum > 0 ? sum : SLOPE * sum;
        }
      }
      trace.push(to);
    }
    return trace;
  }

  // From the slopes of a number by the outputs (n x outputs) to those by the inputs; those by the parameters are added to
  // `gradient`. With `tangents` it is the number "slopes times directional derivative" whose slopes by the weights are added.
  function backward(trace, slopes, n, gradient, tangents) {
    let delta = slopes;
    for (let l = layers.length - 1; l >= 0; l--) {
      const { inputs, outputs, W, b } = layers[l], from = (tangents ?? trace)[l], below = new Float64Array(n * inputs);
      for (let i = 0; i < n; i++) {
        for (let o = 0; o < outputs; o++) {
          const d = delta[i * outputs + o];
          if (d === 0) continue;
          const w = W + o * inputs, f = i * inputs;
          if (gradient) {
            for (let j = 0; j < inputs; j++) gradient[w + j] += d * from[f + j];
            if (!tangents) gradient[b + o] += d;
          }
          for (let j = 0; j < inputs; j++) below[f + j] += d * theta[w + j];
        }
      }
      const kinks = trace[l];
      if (l) for (let i = 0; i < below.length; i++) if (kinks[i] <= 0) below[i] *= SLOPE;
      delta = below;
    }
    return delta;
  }

  // The directional derivatives of every layer along the directions t (n x inputs): the network with its kinks held fixed.
  function along(trace, t, n) {
    const tangents = [t];
    layers.forEach(({ inputs, outputs, W, last }, l) => {
      const from = tangents[l], to = new Float64Array(n * outputs);
      for (let i = 0; i < n; i++) {
        for (let o = 0; o < outputs; o++) {
          let sum = 0;
          for (let j = 0; j < inputs; j++) sum += theta[W + o * inputs + j] * from[i * inputs + j];
          to[i * outputs + o] = last || trace[l + 1][i * outputs + o] > 0 ? sum : SLOPE * sum;
        }
      }
      tangents.push(to);
    });
    return tangents;
  }
  return { theta, forward, backward, along, output: (x, n) => forward(x, n)[layers.length] };
}

// Adam (Kingma and Ba, 2015), on an array in place.
export function adam(theta, [beta1, beta2]) {
  const m = new Float64Array(theta.length), v = new Float64Array(theta.length);
  let t = 0;
  return (gradient, lr) => {
    t += 1;
    const rate = lr / (1 - beta1 ** t), scale = Math.sqrt(1 - beta2 ** t);
    for (let i = 0; i < theta.length; i++) {
      m[i] = beta1 * m[i] + (1 - beta1) * gradient[i];
      v[i] = beta2 * v[i] + (1 - beta2) * gradient[i] * gradient[i];
      theta[i] -= (rate * m[i]) / (Math.sqrt(v[i]) / scale + 1e-8);
    }
  };
}

const sigmoid = (a) => 1 / (1 + Math.exp(-a));
const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));

// Each loss of a logit with its slope: D's on real points, D's on generated ones, G's.
const not = [(a) => softplus(a), sigmoid], yes = [(a) => softplus(-a), (a) => -sigmoid(-a)];
const critic = { real: [(a) => -a, () => -1], fake: [(a) => a, () => 1], G: [(a) => -a, () => -1] };
const towards = (target) => [(a) => 0.5 * (a - target) ** 2, (a) => a - target];
export const LOSSES = {
  minimax: { name: "minimax", real: yes, fake: not, G: [(a) => -softplus(a), (a) => -sigmoid(a)] },
  non_saturating: { name: "non-saturating", real: yes, fake: not, G: yes },
  least_squares: { name: "least squares", real: towards(1), fake: towards(0), G: towards(1) },
  clipping: { name: "Wasserstein, clipped weights", ...critic, clip: true },
  penalty: { name: "Wasserstein, gradient penalty", ...critic, penalty: true },
};

// The game from its start: the same settings, the same run.
export function game({ world, loss, seed, hidden, batch, betas, clip, penalty }) {
  const random = generator(seed), { real, fake, G: own, ...rules } = LOSSES[loss], { dim, centres, sd } = world;
  const G = network([dim, hidden, hidden, dim], random), D = network([dim, hidden, hidden, 1], random);
  const moveG = adam(G.theta, betas), moveD = adam(D.theta, betas);
  const data = (n, source = random) => {
    const x = new Float64Array(n * dim);
    for (let i = 0; i < n; i++) {
      const centre = centres[Math.floor(source.uniform() * centres.length)], noise = source.normals(dim);
      for (let j = 0; j < dim; j++) x[i * dim + j] = centre[j] + sd * noise[j];
    }
    return x;
  };
  const mean = (values, f) => values.reduce((sum, a) => sum + f(a), 0) / values.length;
  const slopes = (values, f) => values.map((a) => f(a) / values.length);

  // D's move on given points, given noise and, for the penalty, given places between the two: its loss before the move.
  function moveOfD(x, z, mix, lr) {
    const n = x.length / dim, y = G.output(z, n), gradient = new Float64Array(D.theta.length);  // y is held fixed
    let value = 0;
    for (const [points, [f, slope]] of [[x, real], [y, fake]]) {
      const trace = D.forward(points, n), logits = trace[trace.length - 1];
      value += mean(logits, f);
      D.backward(trace, slopes(logits, slope), n, gradient);
    }
    if (rules.penalty) {  // of the norm of D's gradient, at one point between each pair; slopes by D's weights, exactly
      const trace = D.forward(x.map((v, i) => mix[Math.floor(i / dim)] * v + (1 - mix[Math.floor(i / dim)]) * y[i]), n);
      const ones = new Float64Array(n).fill(1), t = D.backward(trace, ones, n);
      for (let i = 0; i < n; i++) {
        const norm = Math.hypot(...t.subarray(i * dim, (i + 1) * dim));
        value += (penalty * (norm - 1) ** 2) / n;
        for (let j = 0; j < dim; j++) t[i * dim + j] *= (2 * penalty * (norm - 1)) / (norm * n || 1);
      }
      D.backward(trace, ones, n, gradient, D.along(trace, t, n));
    }
    moveD(gradient, lr);
    if (rules.clip) D.theta.forEach((w, i) => { D.theta[i] = Math.min(clip, Math.max(-clip, w)); });
    return { value, gradient };
  }

  function moveOfG(z, lr) {
    const n = z.length / dim, gradient = new Float64Array(G.theta.length);
    const made = G.forward(z, n), judged = D.forward(made[made.length - 1], n), logits = judged[judged.length - 1];
    G.backward(made, D.backward(judged, slopes(logits, own[1]), n), n, gradient);
    moveG(gradient, lr);
    return { value: mean(logits, own[0]), gradient };
  }

  const counts = { D: 0, G: 0 };
  // One round of Algorithm 1 (Goodfellow et al., 2014): k moves of D, each on new points, then one of G.
  function round(k, lr) {
    let d = 0;
    for (let step = 0; step < k; step++, counts.D++) {
      const mix = rules.penalty ? Float64Array.from({ length: batch }, random.uniform) : null;
      d = moveOfD(data(batch), random.normals(batch * dim), mix, lr).value;
    }
    counts.G += 1;
    return { D: d, G: moveOfG(random.normals(batch * dim), lr).value };
  }
  return { G, D, data, moveOfD, moveOfG, round, counts };
}

// How many modes the points y cover, and the share of good ones, as `gencourse.metrics.modes` counts them.
export function modes(y, { dim, centres, sd }) {
  const n = y.length / dim, counts = centres.map(() => 0);
  for (let i = 0; i < n; i++) {
    let nearest = 0, least = Infinity;
    centres.forEach((centre, k) => {
      let square = 0;
      for (let j = 0; j < dim; j++) square += (y[i * dim + j] - centre[j]) ** 2;
      if (square < least) { least = square; nearest = k; }
    });
    if (least <= (3 * sd) ** 2) counts[nearest] += 1;
  }
  return { covered: counts.filter((c) => c >= (0.2 * n) / centres.length).length, good: counts.reduce((a, c) => a + c, 0) / n };
}

export function moments(y) {
  const mean = y.reduce((a, v) => a + v, 0) / y.length;
  return { mean, sd: Math.sqrt(y.reduce((a, v) => a + (v - mean) ** 2, 0) / y.length) };
}

function make(tag, attributes = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// The canvas's context in CSS pixels, empty, with its size.
function fresh(canvas) {
  const ratio = window.devicePixelRatio || 1, [width, height] = [canvas.clientWidth, canvas.clientHeight];
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return { context, width, height };
}

function polyline(context, points, colour, line = 2, dash = []) {
  context.strokeStyle = colour;
  context.lineWidth = line;
  context.setLineDash(dash);
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
  context.setLineDash([]);
}

// D's answers as numbers from -1 (generated) to 1 (real); a critic's have no scale of their own, so theirs is the picture's.
function verdicts(logits, loss) {
  if (loss === "minimax" || loss === "non_saturating") return logits.map((a) => 2 * sigmoid(a) - 1);
  if (loss === "least_squares") return logits.map((a) => Math.min(1, Math.max(-1, 2 * a - 1)));
  const low = Math.min(...logits), high = Math.max(...logits);
  return logits.map((a) => (high > low ? (2 * (a - low)) / (high - low) - 1 : 0));
}

function drawPlane({ context, width, height }, { dim, centres, sd, box }, { D }, loss, real, made) {
  const at = (v) => (width * (v / box + 1)) / 2;
  if (dim === 2) {
    const cells = 40, x = new Float64Array(2 * cells * cells);
    for (let i = 0; i < cells * cells; i++) {
      x[2 * i] = box * ((2 * (i % cells) + 1) / cells - 1);
      x[2 * i + 1] = box * (1 - (2 * Math.floor(i / cells) + 1) / cells);
    }
    verdicts(D.output(x, cells * cells), loss).forEach((v, i) => {
      context.fillStyle = v > 0 ? `rgba(42, 140, 200, ${0.45 * v})` : `rgba(213, 94, 0, ${-0.45 * v})`;
      const edge = (k, size) => Math.round((k * size) / cells), column = i % cells, row = Math.floor(i / cells);
      const [left, top] = [edge(column, width), edge(row, height)];
      context.fillRect(left, top, edge(column + 1, width) - left, edge(row + 1, height) - top);
    });
    context.strokeStyle = "#0072b2";
    context.lineWidth = 1.2;
    context.beginPath();
    for (let i = 0; i < real.length; i += 2) {
      const [u, v] = [at(real[i]), height - at(real[i + 1])];
      context.moveTo(u - 3, v);
      context.lineTo(u + 3, v);
      context.moveTo(u, v - 3);
      context.lineTo(u, v + 3);
    }
    context.stroke();
    context.strokeStyle = "#fff";
    context.fillStyle = MADE;
    context.lineWidth = 0.7;
    for (let i = 0; i < 2 * 400; i += 2) {
      context.beginPath();
      context.arc(at(made[i]), height - at(made[i + 1]), 2.8, 0, 2 * Math.PI);
      context.fill();
      context.stroke();
    }
    return;
  }
  const density = (v) => centres.reduce((a, [c]) => a + Math.exp(-0.5 * ((v - c) / sd) ** 2), 0) / (centres.length * sd * Math.sqrt(2 * Math.PI));
  const grid = Float64Array.from({ length: 161 }, (_, i) => box * (i / 80 - 1)), bins = new Float64Array(80), side = (2 * box) / 80;
  for (const v of made) if (Math.abs(v) < box) bins[Math.floor((v + box) / side)] += 1 / (made.length * side);
  const top = 1.8 * Math.max(...grid.map(density)), up = (p) => height * (1 - Math.min(1, p / top));
  context.fillStyle = MADE;
  bins.forEach((p, i) => p && context.fillRect((width * i) / 80, up(p), width / 80 - 1, height - up(p)));
  polyline(context, Array.from(grid, (v) => [at(v), up(density(v))]), REAL, 3);
  polyline(context, [[0, height / 2], [width, height / 2]], LINE, 1, [4, 4]);
  const judged = verdicts(D.output(grid, grid.length), loss);
  polyline(context, Array.from(grid, (v, i) => [at(v), (height * (1 - 0.96 * judged[i])) / 2]), JUDGE, 2.5);
}

// Two curves of losses, averaged to at most 150 points; gives the range shown.
function drawLosses({ context, width, height }, history, guess) {
  const bins = Math.min(150, history.length), size = history.length / (bins || 1);
  const curves = ["D", "G"].map((who) => Array.from({ length: bins }, (_, i) => {
    const part = history.slice(Math.floor(i * size), Math.max(Math.floor(i * size) + 1, Math.floor((i + 1) * size)));
    return part.reduce((a, step) => a + step[who], 0) / part.length;
  }));
  const all = [...curves.flat(), ...(guess ? [guess] : [])];
  if (!all.length) return null;
  const [low, high] = [Math.min(...all), Math.max(...all)], pad = 0.08 * (high - low) || 1;
  const y = (v) => height * (1 - (v - low + pad) / (high - low + 2 * pad));
  if (guess) polyline(context, [[0, y(guess)], [width, y(guess)]], LINE, 1.5, [4, 4]);
  curves.forEach((curve, i) => polyline(context, curve.map((v, t) => [(width * (t + 0.5)) / bins, y(v)]), i ? MADE : JUDGE, 1.8, i ? [6, 3] : []));
  return [low, high];
}

function render({ model, el }) {
  const worlds = model.get("worlds"), settings = model.get("settings");
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const sign = (v, digits = 2) => v.toFixed(digits).replace("-", "\u2212");

  const canvas = make("canvas", { role: "img" }), losses = make("canvas", { role: "img", "aria-label": "The losses of D and of G over the rounds" });
  const legend = make("ul"), range = make("div", { class: "range" });
  const plane = make("div", { class: "plane" }, [canvas, legend]);
  const select = (name, options) => make("select", { "aria-label": name }, options.map(([value, words]) => make("option", { value }, [words])));
  const chosen = {
    world: select("Data", Object.entries(worlds).map(([key, { name }]) => [key, name])),
    loss: select("Loss", Object.entries(LOSSES).map(([key, { name }]) => [key, name])),
    d_steps: select("Moves of D a round, k", [1, 2, 5, 10].map((k) => [k, `${k}`])),
    lr: select("Learning rate", [0.0003, 0.001, 0.003, 0.01].map((lr) => [lr, `${lr}`])),
  };
  const speed = select("Speed", [["slow", "slow"], ["fast", "fast"]]);
  speed.value = "fast";
  const rows = [["data", chosen.world], ["loss", chosen.loss], ["moves of D, k", chosen.d_steps], ["learning rate", chosen.lr], ["speed", speed]];
  const panel = make("div", { class: "settings", role: "group", "aria-label": "Settings" }, rows.flatMap(([text, field]) => [make("span", { "aria-hidden": "true" }, [text]), field]));
  const button = (text, action) => {
    const element = make("button", { type: "button" }, [text]);
    element.addEventListener("click", action);
    return element;
  };
  const START = still ? `train ${QUIET} rounds` : "start";
  const play = button(START, () => (left ? pause() : go()));
  play.className = "play";
  const controls = make("div", { class: "controls", role: "group", "aria-label": "Training" }, [
    play,
    button("step", () => { pause(); train(1); show(); }),
    button("reset", () => reset()),
    button("new seed", () => { model.set("seed", (model.get("seed") + 1) % 2 ** 32); model.save_changes(); reset(); }),
  ]);
  const text = make("output", { "aria-live": "polite" });
  const side = make("div", { class: "side" }, [panel, controls, make("div", { class: "losses" }, [losses, range])]);
  const help = make("div", { class: "help" }, [
    "Other data or another loss begins anew; k and the learning rate may be changed on the way. Reset begins again from the same seed "
    + "and, with unchanged settings, gives the same run. Slow is a round a frame.",
  ]);
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  root.replaceChildren(make("style", {}, [STYLE]), make("div", { class: "frame" }, [make("div", { class: "pictures" }, [plane, side]), text, help]));

  let current, real, noise, history;
  function begin() {
    const world = worlds[model.get("world")], other = generator(1);  // what is shown draws nothing from the game's numbers
    current = game({ world, loss: model.get("loss"), seed: model.get("seed"), ...settings });
    real = current.data(300, other);
    noise = other.normals(1000 * world.dim);
    history = [];
    for (const [name, field] of Object.entries(chosen)) field.value = model.get(name);
    const isCritic = ["clipping", "penalty"].includes(model.get("loss"));
    const says = isCritic ? ["scores high", "scores low"] : ["says \u201creal\u201d", "says \u201cgenerated\u201d"];
    legend.replaceChildren(...(world.dim === 2
      ? [["+", "#2a8cc8", "real"], ["\u25cf", MADE, "generated"], ["\u25a0", "#2a8cc8aa", `D ${says[0]}`], ["\u25a0", "#d55e00aa", `D ${says[1]}`]]
      : [["\u2501", REAL, "density of the data"], ["\u25ae", MADE, "generated"], ["\u2501", JUDGE, isCritic ? "D, scaled to the picture" : "D: 0 below, 1 above, \u00bd on the dashed line"]]
    ).map(([mark, colour, words]) => make("li", { "data-sign": mark, style: `--colour: ${colour}` }, [words])));
  }
  function train(rounds) {
    for (let i = 0; i < rounds; i++) history.push(current.round(model.get("d_steps"), model.get("lr")));
  }
  function show() {
    const world = worlds[model.get("world")], loss = model.get("loss"), made = current.G.output(noise, 1000), n = history.length;
    drawPlane(fresh(canvas), world, current, loss, real, made);
    const guess = loss === "minimax" || loss === "non_saturating" ? Math.log(4) : 0, shown = drawLosses(fresh(losses), history, guess);
    range.replaceChildren(...[
      ["\u2501", JUDGE, `D\u2019s loss${n ? ` ${sign(history[n - 1].D)}` : ""}`],
      ["\u2505", MADE, `G\u2019s${n ? ` ${sign(history[n - 1].G)}` : ""}`],
      ["\u2505", LINE, guess ? "log 4" : ""],
      ["", LINE, shown ? `${sign(shown[0])} to ${sign(shown[1])}` : ""],
    ].filter(([, , words]) => words).map(([mark, colour, words]) => {
      const dot = make("b", { style: `color: ${colour}`, "aria-hidden": "true" }, [mark]);
      return make("span", {}, [dot, ` ${words}`]);
    }));
    const { covered, good } = modes(made, world), { mean, sd } = moments(made), { D, G } = current.counts;
    const line = world.dim === 1
      ? ` Generated: mean ${sign(mean)}, sd ${sign(sd)}; data: mean ${sign(centre(world))}, sd ${sign(spread(world))}.`
      : "";
    text.textContent = `Round ${n} (${D} moves of D, ${G} of G), seed ${model.get("seed")}: ${covered} of ${world.centres.length} `
      + `mode${world.centres.length === 1 ? "" : "s"} covered, ${(100 * good).toFixed(1)} % of 1000 generated points within 3 sd of one.${line}`;
    canvas.setAttribute("aria-label", `Real and generated points and the discriminator\u2019s answer, ${world.name}. ${text.textContent}`);
  }
  const centre = ({ centres }) => centres.reduce((a, [c]) => a + c, 0) / centres.length;
  const spread = (world) => Math.sqrt(world.sd ** 2 + world.centres.reduce((a, [c]) => a + (c - centre(world)) ** 2, 0) / world.centres.length);

  let left = 0, frame = 0, seen = true;  // rounds to go; the frame that is asked for; whether the picture is in view
  let last = 0, skipped = false;  // when the last frame began; whether it was not drawn
  function pause() {
    cancelAnimationFrame(frame);
    frame = left = 0;
    play.textContent = START;
    text.setAttribute("aria-live", "polite");
  }
  function go() {
    left = still ? QUIET : LIMIT;
    play.textContent = "pause";
    text.setAttribute("aria-live", "off");  // a screen reader could not follow
    ask();
  }
  function ask() {
    cancelAnimationFrame(frame);
    frame = left && seen ? requestAnimationFrame(tick) : 0;
  }
  function tick() {
    if (!el.isConnected) return pause();
    const start = performance.now(), end = start + BUDGET;
    skipped = start - last > SLOW && start - last < 1000 && !skipped;  // where drawing is slow, every second frame
    last = start;
    do { train(1); left -= 1; } while (left && speed.value === "fast" && performance.now() < end);
    if (!left) pause();
    if ((!still && !skipped) || !left) show();  // without motion only the result is shown
    ask();
  }
  function reset() {
    pause();
    begin();
    show();
  }

  for (const name of ["world", "loss", "d_steps", "lr"]) {
    chosen[name].addEventListener("change", ({ target }) => {
      model.set(name, name === "world" || name === "loss" ? target.value : Number(target.value));
      model.save_changes();
      if (name === "world" || name === "loss") reset();
    });
  }
  root.lastElementChild.addEventListener("keydown", (event) => event.key !== "Tab" && event.key !== "Escape" && event.stopPropagation());
  const view = new IntersectionObserver(([entry]) => { seen = entry.isIntersecting; ask(); });
  view.observe(plane);
  const resize = new ResizeObserver(() => show());
  begin();
  resize.observe(canvas);
  const fromPython = () => { for (const [name, field] of Object.entries(chosen)) field.value = model.get(name); };
  const anew = ["world", "loss", "seed"], onTheWay = ["d_steps", "lr"];
  for (const name of anew) model.on(`change:${name}`, reset);
  for (const name of onTheWay) model.on(`change:${name}`, fromPython);
  return () => {
    pause();
    view.disconnect();
    resize.disconnect();
    for (const name of anew) model.off(`change:${name}`, reset);
    for (const name of onTheWay) model.off(`change:${name}`, fromPython);
  };
}

export default { render };
