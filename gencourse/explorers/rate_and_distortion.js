// VAEs trained with several beta: the curve of rate and distortion, and what each keeps and draws. Runs with the state alone.
// `make`, `unpack` and `draggable` are plane.js's, pictures and numbers those of pixels.js, the networks those of networks.js.

const STYLE = `${PIXELS}
  .chart { display: grid; grid-template-columns: auto 1fr; gap: 0.2rem 0.4rem; max-width: 34rem; }
  .plane { position: relative; touch-action: pan-y; cursor: pointer; user-select: none; -webkit-user-select: none; height: 15rem; outline: 1px solid #8888; }
  .plane:focus-visible { outline: 3px solid #0072b2; outline-offset: 2px; }
  .plane svg { position: absolute; inset: 0; width: 100%; height: 100%; font-size: 12px; overflow: hidden; }
  .mark { position: absolute; width: 18px; height: 18px; margin: -9px 0 0 -9px; border-radius: 50%; box-sizing: border-box;
          border: 3px solid #fff; outline: 2px solid #d55e00; box-shadow: 0 0 0 4px #0008; touch-action: none; }
  .mark::after { content: ""; position: absolute; inset: -17px; border-radius: 50%; }
  .up { display: flex; flex-direction: column; justify-content: space-between; align-items: flex-end; font-variant-numeric: tabular-nums; }
  .up .name { writing-mode: vertical-rl; transform: rotate(180deg); }
  .across { grid-column: 2; display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
  .images { display: grid; gap: 0.2rem; max-width: 34rem; }
  .nats { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; text-align: center; font-variant-numeric: tabular-nums; margin-bottom: 0.3rem; }
  .told { min-height: 4.2em; }
  @media (max-width: 36rem) { .told { min-height: 7em; } }
`;

// n Gaussian numbers, each of two uniform ones (Box and Muller).
export function normals(next, n) {
  return Float64Array.from({ length: n }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - next()));
    return radius * Math.cos(2 * Math.PI * next());
  });
}

// A VAE of binary images: q(z | x), its KL from the prior in nats, and the expected image at z.
export function vae({ latent, encoder, decoder }) {
  const head = network(encoder);
  function encode(x) {
    const out = head(Array.from(x, (v) => 2 * v - 1)), mean = out.slice(0, latent), logVar = out.slice(latent);
    const rate = mean.reduce((sum, m, d) => sum + (m * m + Math.exp(logVar[d]) - logVar[d] - 1) / 2, 0);
    return { mean, sd: logVar.map((v) => Math.exp(v / 2)), rate };
  }
  return { latent, encode, decode: pixelMeans(decoder) };
}

function render({ model, el }) {
  const models = model.get("models"), vaes = models.map(vae), images = model.get("images").map(bits), n = images.length;
  const height = model.get("height"), width = model.get("width"), one = models.findIndex(({ beta }) => beta === 1);
  const start = model.get("chosen");

  // --- The curve
  const rates = models.map(({ rate }) => rate), distortions = models.map(({ distortion }) => distortion);
  const span = (values) => {
    const low = Math.min(...values), high = Math.max(...values), edge = 0.08 * (high - low) || 1;
    return [low - edge, high + edge];
  };
  const [l, r] = span([0, ...rates]), [d, u] = span([0, ...distortions]);
  const mark = make("div", { class: "mark" }), svg = draft("svg", { "aria-hidden": "true", preserveAspectRatio: "none" });
  const plane = make("div", { class: "plane", tabindex: "0", role: "slider", "aria-label": "Model on the curve of rate and distortion", "aria-valuemin": 0, "aria-valuemax": models.length - 1 }, [svg, mark]);
  const ends = (low, high) => [Math.max(0, low), high].map((v) => make("span", {}, [v.toFixed(0)]));
  const [bottom, top] = ends(0, Math.max(...distortions)), [left, right] = ends(0, Math.max(...rates));
  const chart = make("div", { class: "chart" }, [
    make("div", { class: "up", "aria-hidden": "true" }, [top, make("span", { class: "name" }, ["distortion, nats"]), bottom]), plane,
    make("div", { class: "across", "aria-hidden": "true" }, [left, make("span", { class: "name" }, ["rate, nats"]), right]),
  ]);
  function drawChart() {
    const W = plane.clientWidth || 400, H = plane.clientHeight || 240, k = model.get("chosen"), beta = models[k].beta;
    const x = (v) => (W * (v - l)) / (r - l), y = (v) => (H * (u - v)) / (u - d);
    const line = (slope, style) => draft("line", {
      x1: x(l), y1: y(distortions[k] + slope * (l - rates[k])), x2: x(r), y2: y(distortions[k] + slope * (r - rates[k])), stroke: "currentColor", ...style,
    });
    const label = ({ beta: b }, i) => draft("text", {
      x: x(rates[i]) + (x(rates[i]) > 0.8 * W ? -12 : 12), y: y(distortions[i]) + (x(rates[i]) > 0.8 * W ? 18 : -7), fill: "currentColor", "text-anchor": x(rates[i]) > 0.8 * W ? "end" : "start",
    }, [`\u03b2 = ${b}`]);
    svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    svg.replaceChildren(
      line(-1, { class: "elbo", opacity: 0.45 }),
      ...(beta === 1 ? [] : [line(-beta, { class: "price", stroke: "#d55e00", "stroke-dasharray": "6 4" })]),
      draft("polyline", { points: rates.map((v, i) => `${x(v).toFixed(1)},${y(distortions[i]).toFixed(1)}`).join(" "), fill: "none", stroke: "#2a8cc8", "stroke-width": 2 }),
      ...rates.map((v, i) => draft("circle", { cx: x(v), cy: y(distortions[i]), r: 5, fill: "#2a8cc8" })),
      ...models.map(label),
    );
    mark.style.left = `${(100 * (rates[k] - l)) / (r - l)}%`;
    mark.style.top = `${(100 * (u - distortions[k])) / (u - d)}%`;
  }

  // --- Pictures: test images, what comes back of them, and draws
  const across = n * (width + 1) - 1, size = shape(height, across);
  const strip = (kind) => picture(size, { role: "img", class: kind }, 8 * across);
  const strips = [strip("test"), strip("back"), strip("drawn")];
  const spread = (columns) => Array.from({ length: height * across }, (_, i) => {
    const at = i % across, k = Math.floor(at / (width + 1)), column = at % (width + 1);
    return column === width ? null : columns[k][Math.floor(i / across) * width + column];
  });
  const nats = make("div", { class: "nats" }), name = (text) => make("div", { class: "name" }, [text]);
  const seen = make("div", { class: "images" }, [
    name("Test images, and the rate of each in nats"), strips[0].canvas, nats,
    name("What the decoder makes of a draw from q(z | x)"), strips[1].canvas,
    name("What it makes of draws from the prior"), strips[2].canvas,
  ]);

  const slider = make("input", { type: "range", min: 0, max: models.length - 1, step: 1, "aria-label": "Beta" }), says = make("span", {});
  slider.addEventListener("input", () => choose(Number(slider.value)));
  const controls = make("div", { class: "row" }, [
    make("label", { style: "flex: 1 1 14rem" }, ["\u03b2", slider, says]), button("draw again", () => set({ seed: (model.get("seed") + 1) % 2 ** 32 })),
  ]);
  const told = make("output", { class: "told", "aria-live": "polite" });
  const help = make("div", { class: "help" }, [
    "Move the slider, drag the ring along the curve, or focus the curve and use the arrow keys. On the thin line the bound, "
    + "\u2212(rate + distortion), is the same; the dashed line has the slope \u2212\u03b2: along it, what this model was trained to lower is the same. "
    + "Pictures show the probability of white. The same random numbers serve every \u03b2.",
  ]);
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  const frame = make("div", { class: "frame" }, [controls, chart, told, seen, help]);
  root.replaceChildren(make("style", {}, [STYLE]), frame);

  function show() {
    const k = model.get("chosen"), { beta, rate, distortion } = models[k], { latent, encode, decode } = vaes[k];
    const numbers = normals(random(model.get("seed")), 2 * n * latent);
    const codes = images.map(encode), noise = (i) => numbers.slice(i * latent, (i + 1) * latent);
    strips[0].paint(spread(images));
    strips[1].paint(spread(codes.map(({ mean, sd }, i) => decode(noise(i).map((e, j) => mean[j] + sd[j] * e)))));
    strips[2].paint(spread(images.map((_, i) => decode(noise(n + i)))));
    nats.replaceChildren(...codes.map((code) => make("span", {}, [code.rate.toFixed(1)])));
    const counts = beta === 1 ? "R + D, the negative bound itself" : `D + ${beta} R: a nat of rate counts as ${beta} nats of distortion`;
    const bound = rate + distortion, best = one < 0 ? null : rates[one] + distortions[one];
    told.replaceChildren(...[
      `\u03b2 = ${beta}: rate R = ${rate.toFixed(1)} nats, distortion D = ${distortion.toFixed(1)} nats, on the test images.`,
      `Training lowered ${counts}.`,
      `R + D = ${bound.toFixed(1)} nats${best === null || k === one ? "" : `; with \u03b2 = 1 it is ${best.toFixed(1)}`}.`,
    ].map((text) => make("div", {}, [text])));
    slider.value = k;
    says.textContent = String(beta);
    slider.setAttribute("aria-valuetext", `\u03b2 = ${beta}`);
    plane.setAttribute("aria-valuenow", k);
    plane.setAttribute("aria-valuetext", `\u03b2 = ${beta}, rate ${rate.toFixed(1)}, distortion ${distortion.toFixed(1)} nats`);
    strips.forEach(({ canvas }, i) => canvas.setAttribute("aria-label", `${n} ${["test images", `images decoded from draws of q, \u03b2 = ${beta}`, `images decoded from draws of the prior, \u03b2 = ${beta}`][i]}`));
    drawChart();
  }

  // --- What the reader does
  function set(values) {
    for (const [key, value] of Object.entries(values)) model.set(key, value);
    show();
    model.save_changes();
  }
  const choose = (k) => set({ chosen: Math.min(models.length - 1, Math.max(0, k)) });
  const nearest = (a, b) => {
    const far = models.map((_, i) => Math.hypot((rates[i] - a) / (r - l), (distortions[i] - b) / (u - d)));
    return far.indexOf(Math.min(...far));
  };
  draggable(plane, mark, [l, r, d, u], {
    put: (a, b) => choose(nearest(a, b)),
    where: () => [rates[model.get("chosen")], distortions[model.get("chosen")]],
    home: () => choose(start),
    move: (a, b) => {  // more rate is less beta, more distortion is more
      const k = model.get("chosen");
      choose(k + Math.sign(b - distortions[k] - (a - rates[k])));
    },
  });
  frame.addEventListener("keydown", (event) => event.key !== "Tab" && event.key !== "Escape" && event.stopPropagation());
  const resize = new ResizeObserver(drawChart);
  resize.observe(plane);
  show();
  for (const key of ["chosen", "seed"]) model.on(`change:${key}`, show);
  return () => {
    resize.disconnect();
    for (const key of ["chosen", "seed"]) model.off(`change:${key}`, show);
  };
}

export default { render };
