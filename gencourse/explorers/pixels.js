// What explorers of chains on binary images need besides plane.js: random numbers, pictures of pixels, buttons, and a clock.

// mulberry32: a function that gives uniform numbers in [0, 1), from 32 bits of state.
function random(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const bits = (text) => Uint8Array.from(text, Number);  // "0110..." -> pixels

const PIXELS = `
  .frame { font: 0.9rem/1.4 system-ui, sans-serif; margin: 0.5rem 0 1rem; padding: 0 6px; text-align: start; max-width: 44rem; display: grid; gap: 0.6rem; }
  .row { display: flex; flex-wrap: wrap; gap: 0.4rem; align-items: center; }
  :is(.row, .group) label { display: flex; gap: 0.5rem; align-items: center; min-height: 1.8rem; }
  .group { display: flex; flex-wrap: wrap; gap: 0.1rem 0.8rem; align-items: center; }
  .group label { gap: 0.3rem; cursor: pointer; }
  .group input { margin: 0; width: 1rem; height: 1rem; accent-color: #0072b2; }
  .name { font-size: 0.95em; }
  input[type=range] { flex: 1; min-width: 8rem; accent-color: #0072b2; height: 1.8rem; margin: 0; touch-action: pan-y; }
  button, select { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor; border-radius: 0.4rem; padding: 0.3rem 0.6rem; min-height: 2.1rem; cursor: pointer; }
  option { color: #000; background: #fff; }
  button.play { min-width: 4.5rem; background: #0072b2; border-color: #0072b2; color: #fff; }
  :is(button, select, input):focus-visible { outline: 3px solid #d55e00; outline-offset: 2px; }
  canvas { display: block; width: 100%; outline: 1px solid #8888; }
  output { display: block; font-variant-numeric: tabular-nums; }
  .help { opacity: 0.85; font-size: 0.9em; }
`;
const UNKNOWN = "#b8c4d0", SIGN = "#d55e00";  // what is not drawn yet; what is marked

const shape = (height, width) => ({ height, width, at: (pixel) => `row ${Math.floor(pixel / width)}, column ${pixel % width}` });

// A canvas of `height` by `width` pixels, about `size` dots high or wide, and a function that paints it: values from 0, black, to 1,
// white, or null where nothing is known. `marked(i)` may ask for a "pin" in a pixel's corner or a "frame" around it.
function picture({ height, width }, attributes = {}, size = 320) {
  const side = Math.max(4, Math.round(size / Math.max(width, height)));  // of a pixel, in whole dots, or there would be seams
  const canvas = make("canvas", { width: width * side, height: height * side, ...attributes }), context = canvas.getContext("2d");
  const box = (i, colour, from, to) => {  // in parts of a pixel
    context.fillStyle = colour;
    context.fillRect((i % width + from) * side, (Math.floor(i / width) + from) * side, (to - from) * side, (to - from) * side);
  };
  const paint = (values, marked = () => "") => {
    for (let i = 0; i < width * height; i++) {
      const value = i < (values?.length ?? 0) ? values[i] : null, grey = Math.round(255 * value);
      const colour = value === null ? UNKNOWN : `rgb(${grey}, ${grey}, ${grey})`, sign = marked(i);
      box(i, colour, 0, 1);
      if (sign === "pin") { box(i, "#fff", 0.04, 0.34); box(i, SIGN, 0.08, 0.3); }
      if (sign === "frame") { box(i, "#fff", 0.02, 0.98); box(i, SIGN, 0.06, 0.94); box(i, colour, 0.22, 0.78); }
    }
  };
  return { canvas, paint };
}

const button = (text, action, attributes = {}) => {
  const element = make("button", { type: "button", ...attributes }, [text]);
  element.addEventListener("click", action);
  return element;
};

// Radio buttons that choose the value of a name of the model: { element, show }.
function radios(model, title, key, options, chosen) {
  const inputs = options.map(([value, text]) => {
    const input = make("input", { type: "radio", name: key, value });
    input.addEventListener("change", () => chosen(value));
    return { value, input, label: make("label", {}, [input, text]) };
  });
  const element = make("div", { class: "group", role: "radiogroup", "aria-label": title }, [make("span", { "aria-hidden": "true" }, [title]), ...inputs.map(({ label }) => label)]);
  return { element, show: () => inputs.forEach(({ value, input }) => { input.checked = value === model.get(key); }) };
}

function choice(title, options, chosen) {
  const element = make("select", { "aria-label": title }, options.map(([value, text]) => make("option", { value }, [text])));
  element.addEventListener("change", () => chosen(Number(element.value)));
  return element;
}

// Calls `advance(n)` so often that n adds up to `rate()` a second, at most a fifth of a second's worth a frame: { play, stop }.
function clock(el, rate, advance, told) {
  let frame = 0, before = 0, owed = 0;
  const show = () => {
    play.textContent = frame ? "pause" : "play";
    told.setAttribute("aria-live", frame ? "off" : "polite");  // a screen reader could not follow
  };
  const stop = () => { cancelAnimationFrame(frame); frame = 0; show(); };
  const tick = (now) => {
    if (!el.isConnected) return stop();
    owed += Math.min(0.2, (now - before) / 1000) * rate();
    before = now;
    frame = requestAnimationFrame(tick);
    const whole = Math.floor(owed);
    owed -= whole;
    if (whole) advance(whole);
  };
  const play = button("play", () => {
    if (frame) return stop();
    before = performance.now();
    owed = 1;
    frame = requestAnimationFrame(tick);
    show();
  }, { class: "play" });
  return { play, stop };
}

const draft = (tag, attributes, children = []) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const signed = (v, digits = 1) => v.toFixed(digits).replace("-", "\u2212");
