// A chain of reconstructions that runs here: a state is spoiled, a network guesses, the next state is drawn. Runs with the state
// alone. `make` is plane.js's; random numbers, pictures and buttons are those of pixels.js, `network` that of networks.js.

const STYLE = `${PIXELS}
  .pictures { display: grid; grid-template-columns: repeat(4, 1fr); gap: 0.2rem 1rem; max-width: 34rem; }
  .pictures .name { align-self: end; }
  .strip { display: grid; grid-template-columns: repeat(15, 1fr); gap: 0.2rem 0.3rem; }
  .strip div { text-align: center; font-size: 0.85em; line-height: 1.2; font-variant-numeric: tabular-nums; }
  .strip .new { font-weight: 700; text-decoration: underline 2px; }
  .told { min-height: 4.2em; }
  .chart { width: 100%; height: 110px; display: block; font-size: 12px; overflow: visible; max-width: 34rem; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  caption { text-align: start; }
  th, td { padding: 0.1rem 0.5rem 0.1rem 0; text-align: start; font-weight: 400; white-space: nowrap; }
  th { border-bottom: 1px solid currentColor; }
  @media (max-width: 36rem) { .strip { grid-template-columns: repeat(10, 1fr); } .pictures { gap: 0.2rem 0.5rem; } .told { min-height: 8.4em; } }
`;
const PACES = [[2, "2 steps a second"], [10, "10 steps a second"], [60, "60 steps a second"]];
const SHOWN = 30;  // states in the strip
const NAMES = { plain: "plain", walkback: "with walkback" };

// A network's logits of white from pixels 0 and 1, which it sees as -1 and 1.
export function reconstructor(layers) {
  const run = network(layers);
  return (x) => run(Float64Array.from(x, (v) => 2 * v - 1));
}

// One step. A pixel is hit where its number is less than rho, and then white where it is less than rho / 2; a second number a
// pixel draws the next state.
export function step(next, logits, x, rho) {
  const u = Array.from(x, next);
  const noisy = Uint8Array.from(x, (v, i) => (u[i] < rho / 2 ? 1 : u[i] < rho ? 0 : v));
  const white = logits(noisy).map(sigmoid);
  return { noisy, white, x: Uint8Array.from(white, (p) => Number(next() < p)) };
}

function render({ model, el }) {
  const networks = Object.fromEntries(Object.entries(model.get("networks")).map(([name, layers]) => [name, reconstructor(layers)]));
  const scores = network(model.get("classifier")), images = model.get("images").map(bits), trained = model.get("trained");
  const size = shape(model.get("height"), model.get("width")), pixels = size.height * size.width;
  const label = (x) => { const s = scores(Float64Array.from(x)); return s.indexOf(Math.max(...s)); };
  const classes = scores(new Float64Array(pixels)).length;

  // --- What the chain has done
  let next, x, last, states, count, visits, changes;
  const tried = new Map();  // what was counted last with each network and noise
  function forget() { count = changes = 0; visits = new Array(classes).fill(0); }
  function restart() {
    next = random(model.get("seed"));
    x = images[model.get("image")] ?? Uint8Array.from({ length: pixels }, () => Number(next() < 0.5));
    last = null;
    states = [{ x, label: label(x) }];
    model.set("steps", 0);
    forget();
  }
  function advance(n) {
    for (; n > 0; n--) {
      const before = states.at(-1).label;
      last = { before: x, ...step(next, networks[model.get("network")], x, model.get("noise")) };
      x = last.x;
      states.push({ x, label: label(x) });
      if (states.length > SHOWN) states.shift();
      model.set("steps", model.get("steps") + 1);
      count += 1;
      visits[states.at(-1).label] += 1;
      changes += Number(states.at(-1).label !== before);
    }
    note();
    show();
    save();
  }
  const seen = () => visits.filter((n) => n).length, percent = (share) => `${(100 * share).toFixed(1)} %`;
  function note() {
    const key = `${model.get("network")} ${model.get("noise")}`;
    tried.delete(key);
    tried.set(key, [NAMES[model.get("network")], model.get("noise").toFixed(2), String(count), String(seen()), percent(changes / count)]);
    if (tried.size > 5) tried.delete(tried.keys().next().value);
  }

  // --- What is seen
  const four = ["state x", "spoiled", "P(white)", "next state"].map((name) => ({ name, ...picture(size, { role: "img" }, 160) }));
  const pictures = make("div", { class: "pictures" }, [...four.map(({ name }) => make("div", { class: "name" }, [name])), ...four.map(({ canvas }) => canvas)]);
  const film = Array.from({ length: SHOWN }, () => ({ ...picture(size, { "aria-hidden": "true" }, 80), digit: make("div", {}, ["\u00a0"]) }));
  const strip = make("div", { class: "strip", role: "img" }, film.map(({ canvas, digit }) => make("div", {}, [canvas, digit])));
  const told = make("output", { class: "told", "aria-live": "polite" }), chart = draft("svg", { class: "chart", role: "img" });
  const rows = make("tbody", {}), heads = ["network", "noise", "steps", "classes", "changes"];
  const table = make("table", {}, [make("caption", { class: "name" }, ["What you have tried"]), make("thead", {}, [make("tr", {}, heads.map((text) => make("th", { scope: "col" }, [text])))]), rows]);

  const pace = choice("Pace", PACES, () => {});
  pace.value = 10;
  const { play, stop } = clock(el, () => Number(pace.value), advance, told);
  const start = choice("What the chain begins with", [[-1, "begin with noise"], ...images.map((_, i) => [i, `begin with test digit ${i + 1}`])], (i) => set({ image: i }, restart));
  const walking = make("div", { class: "row", role: "group", "aria-label": "Walking" }, [
    play, button("one step", () => { stop(); advance(1); }), button("100 steps", () => { stop(); advance(100); }),
    button("1000 steps", () => { stop(); advance(1000); }), pace,
  ]);
  const beginning = make("div", { class: "row", role: "group", "aria-label": "Beginning" }, [
    start, button("begin again", () => set({}, restart)), button("new numbers", () => set({ seed: (model.get("seed") + 1) % 2 ** 32 }, restart)),
  ]);
  const slider = make("input", { type: "range", min: 0, max: 0.6, step: 0.01, "aria-label": "Noise" }), level = make("span", {});
  slider.addEventListener("input", () => set({ noise: Number(slider.value) }, forget));
  const noise = make("div", { class: "row" }, [make("label", { style: "flex: 1" }, ["noise", slider, level])]);
  const ways = radios(model, "trained", "network", Object.entries(NAMES), (name) => set({ network: name }, forget));
  const help = make("div", { class: "help" }, [
    `A step hits each pixel at the probability "noise"; a hit makes it white or black, whatever it was. Both networks were trained at ${trained.plain.toFixed(2)}; `
    + "at another level the chain is one that they were not trained for. Underlined is a class that is not the one before. The classes are guesses of a linear classifier, which gets "
    + `${percent(model.get("right"))} of the test images right, and has a class for every image, also for one that is no digit.`,
  ]);
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  const frame = make("div", { class: "frame" }, [walking, beginning, noise, ways.element, pictures, strip, told, chart, make("div", { class: "scroll" }, [table]), help]);
  root.replaceChildren(make("style", {}, [STYLE]), frame);

  function drawChart() {
    const [W, H, l, r, u, d] = [chart.clientWidth || 400, 110, 4, 4, 16, 34], each = (W - l - r) / classes, most = Math.max(1, ...visits);
    const text = (words, left, height) => draft("text", { x: left, y: height, "text-anchor": "middle", fill: "currentColor" }, [words]);
    chart.setAttribute("viewBox", `0 0 ${W} ${H}`);
    chart.replaceChildren(...visits.flatMap((n, k) => {
      const height = ((H - u - d) * n) / most, left = l + each * k;
      return [
        draft("rect", { class: "bar", x: left + 0.15 * each, y: H - d - height, width: 0.7 * each, height, fill: "#2a8cc8" }),
        text(String(n), left + each / 2, H - d - height - 4), text(String(k), left + each / 2, H - d + 14),
      ];
    }), text("steps in each class since something was changed", W / 2, H - 4));
    chart.setAttribute("aria-label", `Steps in each class since something was changed: ${visits.map((n, k) => `${k}: ${n}`).join(", ")}.`);
  }

  function show() {
    const steps = model.get("steps"), [first, spoiled, guess, then] = four;
    first.paint(last?.before ?? x);
    spoiled.paint(last?.noisy, (i) => last && last.noisy[i] !== last.before[i] && "pin");
    guess.paint(last?.white);
    then.paint(last?.x);
    const flipped = last ? last.noisy.reduce((n, v, i) => n + (v !== last.before[i]), 0) : 0;
    first.canvas.setAttribute("aria-label", `The state: the classifier says ${last ? label(last.before) : states[0].label}.`);
    spoiled.canvas.setAttribute("aria-label", last ? `Its spoiled copy: ${flipped} pixels differ.` : "No copy yet.");
    guess.canvas.setAttribute("aria-label", "The network's probability of white for each pixel.");
    then.canvas.setAttribute("aria-label", last ? `The next state: the classifier says ${states.at(-1).label}.` : "No next state yet.");
    film.forEach(({ canvas, digit, paint }, k) => {
      const state = states[k], turned = k > 0 && state && state.label !== states[k - 1].label;
      canvas.style.visibility = state ? "visible" : "hidden";
      if (state) paint(state.x);
      digit.textContent = state ? state.label : "\u00a0";
      digit.className = turned ? "new" : "";
    });
    strip.setAttribute("aria-label", `The last ${states.length} states, by class: ${states.map((state) => state.label).join(" ")}.`);
    told.replaceChildren(...[
      `Step ${steps}: class ${states.at(-1).label}${last ? `; the noise flipped ${flipped} of ${pixels} pixels.` : "."}`,
      count ? `In ${count} step${count === 1 ? "" : "s"} since something was changed: ${seen()} of ${classes} classes; ${percent(changes / count)} of the steps changed the class.` : "No step yet since something was changed.",
    ].map((text) => make("div", {}, [text])));
    slider.value = model.get("noise");
    level.textContent = model.get("noise").toFixed(2);
    slider.setAttribute("aria-valuetext", `noise ${model.get("noise").toFixed(2)}`);
    start.value = model.get("image");
    ways.show();
    rows.replaceChildren(...[...tried.values()].map((values) => make("tr", {}, values.map((text) => make("td", {}, [text])))));
    drawChart();
  }

  // --- What the reader does
  function save() {
    model.set("x", x.join(""));
    model.save_changes();
  }
  function set(values, then) {
    for (const [key, value] of Object.entries(values)) model.set(key, value);
    then();
    show();
    save();
  }
  frame.addEventListener("keydown", (event) => event.key !== "Tab" && event.key !== "Escape" && event.stopPropagation());
  const resize = new ResizeObserver(drawChart);

  // A kernel that sets a name of the model sees the page follow.
  const watched = { seed: restart, image: restart, noise: forget, network: forget };
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
