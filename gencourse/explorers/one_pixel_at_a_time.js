// An image being drawn pixel by pixel by a NADE that runs here: see the probability of the next pixel, flip one, see what follows.
// Runs with the state alone, no network. Text takes the page's colour, so it follows light and dark themes.

const STYLE = `
  .frame { font: 0.9rem/1.4 system-ui, sans-serif; margin: 0.5rem 0 1rem; max-width: 40rem; display: grid; gap: 0.7rem; }
  .pictures { display: grid; grid-template-columns: 1fr 1fr; gap: 0.4rem 1rem; }
  .name { align-self: end; font-size: 0.95em; }
  canvas { display: block; width: 100%; outline: 1px solid #8888; box-sizing: border-box; }
  .plane { position: relative; cursor: pointer; touch-action: manipulation; user-select: none; -webkit-user-select: none; }
  .plane:focus-visible { outline: 3px solid #0072b2; outline-offset: 3px; }
  .cursor { position: absolute; box-sizing: border-box; border: 2px dashed #fff; outline: 2px solid #0072b2; pointer-events: none; display: none; }
  .plane:focus-visible .cursor { display: block; }
  .controls { display: flex; flex-wrap: wrap; gap: 0.4rem; align-items: center; }
  button, select { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor; border-radius: 0.4rem; padding: 0.3rem 0.6rem; min-height: 2.1rem; cursor: pointer; }
  option { color: #000; background: #fff; }
  button.play { min-width: 4.5rem; background: #0072b2; border-color: #0072b2; color: #fff; }
  :is(button, select):focus-visible { outline: 3px solid #d55e00; outline-offset: 2px; }
  .bar { position: relative; height: 1.5rem; border: 1px solid currentColor; display: flex; margin: 0.3rem 0.4rem 1.3rem; }
  .zero, .one { overflow: hidden; white-space: nowrap; line-height: 1.5rem; font-size: 0.85em; }
  .zero { background: #000; color: #fff; text-align: left; }
  .one { background: #fff; color: #000; text-align: right; flex: 1; }
  .zero span, .one span { padding: 0 0.4rem; }
  .u { position: absolute; top: -4px; bottom: -4px; width: 4px; margin-left: -2px; background: #d55e00; outline: 1px solid #fff; }
  .u span { position: absolute; top: 100%; left: 50%; transform: translateX(-50%); font-size: 0.85em; white-space: nowrap; }
  output, .events { font-variant-numeric: tabular-nums; }
  .lines { min-height: 5.6em; }
  .help { opacity: 0.85; font-size: 0.9em; }
`;
const SIDE = 24;  // of a pixel, in units of the drawing

function unpack({ data }) {  // float32 in base64, little-endian
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

// mulberry32: uniform numbers in [0, 1) from 32 bits of state.
export function uniforms(seed, n) {
  let state = seed | 0;
  return Float64Array.from({ length: n }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  });
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

// NADE with its numbers unpacked once: (a uniform number a pixel, pixels that are kept) -> the image, and the probability
// of 1 that each pixel had when its turn came; all by flat index. The activations are a running sum: O(H D) an image.
export function nade({ W, c, V, b, order }) {
  const [w, first, v, bias] = [W, c, V, b].map(unpack), hidden = first.length, size = order.length;
  return (u, kept = new Map()) => {
    const a = Float64Array.from(first), x = new Uint8Array(size), p = new Float64Array(size), logits = new Float64Array(size);
    order.forEach((pixel, t) => {
      let logit = bias[t];
      for (let k = 0; k < hidden; k++) logit += v[t * hidden + k] * sigmoid(a[k]);
      logits[pixel] = logit;
      p[pixel] = sigmoid(logit);
      x[pixel] = kept.get(pixel) ?? (u[pixel] >= sigmoid(-logit) ? 1 : 0);
      if (x[pixel]) for (let k = 0; k < hidden; k++) a[k] += w[k * size + t];
    });
    return { x, p, logits };
  };
}

function make(tag, attributes = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Pixels not drawn yet are striped: neither black nor white nor grey.
function blank(context, left, top) {
  context.fillStyle = "#b8c4d0";
  context.fillRect(left, top, SIDE, SIDE);
  context.strokeStyle = "#8a98a8";
  context.lineWidth = 2;
  context.beginPath();
  for (const shift of [0, SIDE / 2]) {
    context.moveTo(left + shift, top + SIDE);
    context.lineTo(left + SIDE, top + shift);
    if (shift) { context.moveTo(left, top + shift); context.lineTo(left + shift, top); }
  }
  context.stroke();
}

function frame(context, left, top) {
  for (const [colour, inset, line] of [["#fff", 2, 4], ["#d55e00", 3, 4]]) {
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.strokeRect(left + inset, top + inset, SIDE - 2 * inset, SIDE - 2 * inset);
  }
}

// What was flipped has a cross, what changed in consequence a dot; both in two colours, to be seen on black and on white.
function sign(context, left, top, kind) {
  const [x, y] = [left + SIDE / 2, top + SIDE / 2];
  for (const [colour, line] of [["#fff", 7], ["#0072b2", 4]]) {
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = line;
    context.beginPath();
    if (kind === "dot") {
      context.arc(x, y, line - 1, 0, 2 * Math.PI);
      context.fill();
    } else {
      for (const d of [-5, 5]) { context.moveTo(x - 5, y - d); context.lineTo(x + 5, y + d); }
      context.stroke();
    }
  }
}

function render({ model, el }) {
  const network = model.get("network"), { order, height, width } = network, size = order.length, images = model.get("images");
  const draw = nade(network), position = new Map(order.map((pixel, t) => [pixel, t]));
  const place = (pixel) => `row ${Math.floor(pixel / width)}, column ${pixel % width}`;

  const zoom = Math.max(1, 480 / (SIDE * Math.max(width, height)));  // crisp on a screen of any density
  const canvas = () => {
    const element = make("canvas", { width: Math.round(width * SIDE * zoom), height: Math.round(height * SIDE * zoom) });
    element.getContext("2d").scale(zoom, zoom);
    return element;
  };
  const image = canvas(), map = canvas();
  image.setAttribute("aria-hidden", "true");
  map.setAttribute("role", "img");
  const cursor = make("div", { class: "cursor" });
  cursor.style.width = `${100 / width}%`;
  cursor.style.height = `${100 / height}%`;
  const plane = make("div", { class: "plane", tabindex: "0", role: "application", "aria-roledescription": "image to edit" }, [image, cursor]);
  const name = (text) => make("div", { class: "name" }, [text]);
  const pictures = make("div", { class: "pictures" }, [name("The image so far"), name("P(white) when its turn came"), plane, map]);

  const button = (text, action) => {
    const element = make("button", { type: "button" }, [text]);
    element.addEventListener("click", action);
    return element;
  };
  const speed = make("select", { "aria-label": "Speed" }, [2, 8, 32].map((n) => make("option", { value: n }, [`${n} pixels a second`])));
  speed.value = 8;
  const start = make("select", { "aria-label": "What the image begins with" }, [
    make("option", { value: -1 }, ["begin with nothing"]),
    ...images.map((_, i) => make("option", { value: i }, [`begin with half of test image ${i + 1}`])),
  ]);
  start.addEventListener("change", () => begin(Number(start.value)));
  const play = button("play", () => (timer ? pause() : go()));
  play.className = "play";
  const controls = make("div", { class: "controls", role: "group", "aria-label": "Drawing" }, [
    play,
    button("step", () => { pause(); move(model.get("drawn") + 1); }),
    button("back", () => { pause(); move(model.get("drawn") - 1); }),
    button("restart", () => { pause(); move(0); }),
    button("new noise", () => set({ seed: (model.get("seed") + 1) % 2 ** 32, flips: [] })),
    speed,
    ...(images.length ? [start] : []),
  ]);

  const zero = make("div", { class: "zero" }, [make("span", {}, ["black"])]), one = make("div", { class: "one" }, [make("span", {}, ["white"])]);
  const number = make("span", {}), mark = make("div", { class: "u" }, [number]);
  const bar = make("div", { class: "bar", "aria-hidden": "true" }, [zero, one, mark]);
  const text = make("output", { "aria-live": "polite" }), events = make("div", { class: "events", role: "status" });
  const lines = make("div", { class: "lines" }, [text, events]);
  const help = make("div", { class: "help" }, [
    "Each pixel has one uniform number u, which stays. It turns white where u lies in the white part of the bar. "
    + "Click a drawn pixel to flip it (\u2715): later ones are drawn again with their old numbers, those that change are dotted. "
    + "With the keyboard: focus the image, choose a pixel with the arrow keys, flip it with Enter.",
  ]);
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  root.replaceChildren(make("style", {}, [STYLE]), make("div", { class: "frame" }, [pictures, bar, lines, controls, help]));

  // Flips are kept in the order of the model: each says that a pixel has not the value it would have had.
  function run(flips) {
    const chosen = images[model.get("image")], kept = new Map(), u = uniforms(model.get("seed"), size);
    if (chosen) for (const pixel of order.slice(0, Math.ceil(size / 2))) kept.set(pixel, Number(chosen[pixel]));
    let result = draw(u, kept);
    for (const pixel of flips) result = draw(u, kept.set(pixel, 1 - result.x[pixel]));
    return { ...result, u };
  }

  let at = order[0];  // the keyboard's pixel
  function show() {
    const t = model.get("drawn"), flips = model.get("flips"), { x, p, logits, u } = run(flips);
    const before = flips.length ? run(flips.slice(0, -1)).x : x, flipped = flips[flips.length - 1];
    let changed = 0, nats = 0;
    const [left, right] = [image, map].map((c) => c.getContext("2d"));
    order.forEach((pixel, i) => {
      const [across, down] = [SIDE * (pixel % width), SIDE * Math.floor(pixel / width)];
      for (const [context, value, known] of [[left, x[pixel], i < t], [right, p[pixel], i <= t]]) {
        if (!known) { blank(context, across, down); continue; }
        const grey = Math.round(255 * value);
        context.fillStyle = `rgb(${grey}, ${grey}, ${grey})`;
        context.fillRect(across, down, SIDE, SIDE);
      }
      if (i < t) {
        nats -= Math.log1p(Math.exp(x[pixel] ? -logits[pixel] : logits[pixel]));
        if (flips.includes(pixel)) sign(left, across, down, "cross");
        else if (x[pixel] !== before[pixel]) { sign(left, across, down, "dot"); changed += 1; }
      } else if (i === t) {
        blank(left, across, down);
        frame(left, across, down);
        frame(right, across, down);
      }
    });
    const next = order[t], done = t === size;
    bar.style.visibility = done ? "hidden" : "visible";
    if (!done) {
      zero.style.width = `${100 * (1 - p[next])}%`;
      mark.style.left = `${100 * u[next]}%`;
      number.textContent = `u = ${u[next].toFixed(3)}`;
    }
    const so = `log p = ${nats.toFixed(2).replace("-", "\u2212")} nats`;
    const outcome = () => (model.get("image") >= 0 && t < Math.ceil(size / 2)
      ? `it is given: ${x[next] ? "white" : "black"}` : `with u = ${u[next].toFixed(3)} it will be ${x[next] ? "white" : "black"}`);
    text.textContent = done
      ? `All ${size} pixels are drawn; ${so}.`
      : `${t} of ${size} pixels drawn, ${so}. Next is ${place(next)}: P(white) = ${p[next].toFixed(3)}, ${outcome()}.`;
    events.textContent = flips.length && position.get(flipped) < t
      ? `Flipped ${place(flipped)} to ${x[flipped] ? "white" : "black"}: ${changed} of the ${t - position.get(flipped) - 1} pixels drawn after it changed.`
      : "";
    map.setAttribute("aria-label", "The probability of white that each pixel had when its turn came: the brighter, the more probable.");
    start.value = model.get("image");
    aim();
  }
  function aim() {
    cursor.style.left = `${(100 * (at % width)) / width}%`;
    cursor.style.top = `${(100 * Math.floor(at / width)) / height}%`;
    const state = position.get(at) < model.get("drawn") ? (run(model.get("flips")).x[at] ? "white" : "black") : "not drawn yet";
    plane.setAttribute("aria-label", `The image so far, at ${place(at)}: ${state}. The arrow keys choose a pixel, Enter flips it.`);
  }

  function set(values) {
    for (const [key, value] of Object.entries(values)) model.set(key, value);
    show();
    model.save_changes();
  }
  // Stepping back before a flipped pixel takes the flip back: what is drawn again is drawn.
  function move(t) {
    const drawn = Math.min(size, Math.max(0, t));
    set({ drawn, flips: model.get("flips").filter((pixel) => position.get(pixel) < drawn) });
  }
  function begin(i) {
    pause();
    set({ image: i, flips: [], drawn: i < 0 ? 0 : Math.ceil(size / 2) });
  }
  function flip(pixel) {
    const t = position.get(pixel), flips = model.get("flips");
    if (t >= model.get("drawn")) return;
    const earlier = flips.filter((other) => position.get(other) < t);
    set({ flips: flips.includes(pixel) ? earlier : [...earlier, pixel] });  // later flips were made in another image
  }

  let timer = 0;
  function pause() {
    clearTimeout(timer);
    timer = 0;
    play.textContent = "play";
    text.setAttribute("aria-live", "polite");
  }
  function go() {
    text.setAttribute("aria-live", "off");  // a screen reader could not follow
    play.textContent = "pause";
    if (model.get("drawn") === size) move(0);
    const tick = () => {
      if (!el.isConnected) return pause();
      move(model.get("drawn") + 1);
      if (model.get("drawn") === size) return pause();
      timer = setTimeout(tick, 1000 / Number(speed.value));
    };
    timer = setTimeout(tick, 1000 / Number(speed.value));
  }

  plane.addEventListener("click", (event) => {
    const { left, top, width: w, height: h } = plane.getBoundingClientRect();
    const clip = (v, n) => Math.min(n - 1, Math.max(0, Math.floor(v * n)));
    at = width * clip((event.clientY - top) / h, height) + clip((event.clientX - left) / w, width);
    flip(at);
    aim();
  });
  plane.addEventListener("keydown", (event) => {
    const [row, column] = [Math.floor(at / width), at % width];
    const to = {
      ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
      Home: [0, 0], Enter: [row, column], " ": [row, column],
    }[event.key];
    if (!to) return;
    event.preventDefault();  // the page must not scroll, nor the notebook change cells
    at = width * Math.min(height - 1, Math.max(0, to[0])) + Math.min(width - 1, Math.max(0, to[1]));
    if (event.key === "Enter" || event.key === " ") flip(at);
    aim();
  });
  root.lastElementChild.addEventListener("keydown", (event) => event.key !== "Tab" && event.key !== "Escape" && event.stopPropagation());
  const watched = ["seed", "image", "drawn", "flips"];
  for (const key of watched) model.on(`change:${key}`, show);
  show();
  return () => { pause(); for (const key of watched) model.off(`change:${key}`, show); };
}

export default { render };
