// The latent plane of a decoder: drag in it, and see the image that the decoder draws there.
// Runs with the state alone, no network. Text takes the page's colour, so it follows light and dark themes.

const STYLE = `
  .frame { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; font: 0.9rem/1.4 system-ui, sans-serif; margin: 0.5rem 0 1rem; }
  .map { flex: 1 1 16rem; max-width: 24rem; display: grid; grid-template-columns: auto 1fr; gap: 0.2rem 0.4rem; }
  .view { flex: 0 1 12rem; min-width: 9rem; display: flex; flex-direction: column; gap: 0.5rem; }
  .plane { position: relative; touch-action: pan-y; cursor: crosshair; user-select: none; -webkit-user-select: none; outline: 1px solid #8888; overflow: hidden; }
  .plane:focus-visible { outline: 3px solid #0072b2; outline-offset: 2px; }
  canvas { display: block; width: 100%; }
  .tiles, .picture { image-rendering: pixelated; background: #7f7f7f; }
  .dots { position: absolute; inset: 0; height: 100%; }
  .mark { position: absolute; width: 16px; height: 16px; margin: -8px 0 0 -8px; border-radius: 50%; box-sizing: border-box;
          border: 3px solid #fff; outline: 2px solid #d55e00; box-shadow: 0 0 0 4px #0008; touch-action: none; }
  .mark::after { content: ""; position: absolute; inset: -17px; border-radius: 50%; }
  .up, .across { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
  .up { flex-direction: column; align-items: flex-end; }
  .across { grid-column: 2; }
  .picture { outline: 1px solid #8888; }
  .value { font-variant-numeric: tabular-nums; }
  .help { opacity: 0.8; font-size: 0.85em; }
  label { display: flex; gap: 0.4rem; align-items: baseline; }
  @media (max-width: 36rem) {
    .view { flex: 1 1 100%; display: grid; grid-template-columns: 8rem 1fr; gap: 0.3rem 0.8rem; align-content: start; }
    .picture { grid-row: 1 / span 4; }
  }
`;
// Ten hues as dark as they are light: a contrast of 3 or more on white and on black. The numerals tell classes apart too.
const COLOURS = ["#0072b2", "#d55e00", "#008a64", "#c0609a", "#b07800", "#2a8cc8", "#8d62c4", "#808080", "#8a8000", "#c04848"];

// An array from JSON: { dtype: "float16" or "float32", data: base64, little-endian }.
export function unpack({ dtype, data }) {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  if (dtype === "float32") {
    return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => {
    const half = view.getUint16(2 * i, true);
    const sign = half >> 15 ? -1 : 1, exponent = (half >> 10) & 31, fraction = half & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  });
}

const ACTIVATIONS = {
  tanh: Math.tanh,
  relu: (x) => Math.max(0, x),
  softplus: (x) => Math.max(0, x) + Math.log1p(Math.exp(-Math.abs(x))),
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
};

// The network with its numbers unpacked once: z (2 numbers) -> the image's expected grey levels, channel, row, column.
export function decoder({ layers, levels, inverse_scale }) {
  const ready = layers.map(({ kind, weight, bias }) => (kind === "linear" ? { weight: unpack(weight), bias: unpack(bias) } : ACTIVATIONS[kind]));
  const sharpness = inverse_scale && unpack(inverse_scale);
  return (z) => {
    let x = Float64Array.from(z);
    for (const layer of ready) {
      if (typeof layer === "function") {
        x = x.map(layer);
        continue;
      }
      const { weight, bias } = layer, inputs = x.length;
      const y = new Float64Array(bias.length);
      for (let row = 0, k = 0; row < y.length; row++) {
        let sum = bias[row];
        for (let i = 0; i < inputs; i++) sum += weight[k++] * x[i];
        y[row] = sum;
      }
      x = y;
    }
    if (!sharpness) return x.map((u) => Math.min(1, Math.max(0, u)) * (levels - 1));
    return x.map((u, i) => {  // a discretised logistic: the sum over k of P(level >= k)
      let mean = 0;
      for (let k = 1; k < levels; k++) mean += ACTIVATIONS.sigmoid((u - (k - 0.5) / (levels - 1)) * sharpness[i]);
      return mean;
    });
  };
}

function paint(context, image, [channels, height, width], levels, left = 0, top = 0) {
  const pixels = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) {
      pixels.data[4 * i + c] = Math.round((255 * image[channels === 3 ? c * width * height + i : i]) / (levels - 1));
    }
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, left, top);
}

function make(tag, attributes = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function render({ model, el }) {
  const network = model.get("network"), box = model.get("box");
  const [, height, width] = network.shape, { levels } = network;
  const decode = decoder(network);
  const format = (value) => value.toFixed(2).replace("-", "\u2212");

  // The plane: a map of decoded pictures, the test images' codes over it, and a mark.
  const [columns, rows] = [width, height].map((size) => Math.max(5, Math.min(12, Math.floor(360 / size))));
  const tiles = make("canvas", { class: "tiles", width: columns * (width + 1) - 1, height: rows * (height + 1) - 1, "aria-hidden": "true" });
  const dots = make("canvas", { class: "dots", "aria-hidden": "true" });
  const mark = make("div", { class: "mark" });
  const plane = make("div", {
    class: "plane", tabindex: "0", role: "application", "aria-roledescription": "two-dimensional slider",
    "aria-label": "Latent plane. The arrow keys move z, with Shift in larger steps; Home goes to the origin.",
  }, [tiles, dots, mark]);
  const edge = String(box);
  const up = make("div", { class: "up", "aria-hidden": "true" }, [edge, "z\u2082", `\u2212${edge}`].map((t) => make("span", {}, [t])));
  const across = make("div", { class: "across", "aria-hidden": "true" }, [`\u2212${edge}`, "z\u2081", edge].map((t) => make("span", {}, [t])));

  // The view: the decoder's image at the mark.
  const picture = make("canvas", { class: "picture", width, height, role: "img" });
  const value = make("output", { class: "value", "aria-live": "polite" });
  const view = make("div", { class: "view" }, [picture, value]);
  const points = model.get("points") && unpack(model.get("points")), labels = model.get("labels");
  let showPoints = false;
  if (points) {
    const toggle = make("input", { type: "checkbox" });
    toggle.addEventListener("change", () => { showPoints = toggle.checked; drawPoints(); });
    view.append(make("label", {}, [toggle, labels ? "show where test images lie, each as the number of its class" : "show where test images lie"]));
  }
  view.append(make("div", { class: "help" }, ["Drag in the plane, or focus it and use the arrow keys."]));
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  root.replaceChildren(make("style", {}, [STYLE]), make("div", { class: "frame" }, [make("div", { class: "map" }, [up, plane, across]), view]));

  const clip = (v) => Math.min(box, Math.max(-box, v));
  function show() {
    const [z1, z2] = model.get("z");
    paint(picture.getContext("2d"), decode([z1, z2]), network.shape, levels);
    mark.style.left = `${50 * (1 + z1 / box)}%`;
    mark.style.top = `${50 * (1 - z2 / box)}%`;
    value.textContent = `z\u2081 = ${format(z1)}, z\u2082 = ${format(z2)}`;
    picture.setAttribute("aria-label", `The decoder's image at ${value.textContent}`);
  }
  function move(z1, z2) {
    model.set("z", [clip(z1), clip(z2)]);
    show();
    model.save_changes();
  }

  // The map is drawn a row a frame, so that a large decoder does not hold up the page.
  let row = 0;
  (function drawRow() {
    for (let column = 0; column < columns; column++) {
      const z = [box * ((2 * column + 1) / columns - 1), box * (1 - (2 * row + 1) / rows)];
      paint(tiles.getContext("2d"), decode(z), network.shape, levels, column * (width + 1), row * (height + 1));
    }
    if (++row < rows) requestAnimationFrame(drawRow);
  })();

  function drawPoints() {
    tiles.style.opacity = showPoints ? 0.12 : 1;
    const { width: w, height: h } = plane.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    [dots.width, dots.height] = [w * ratio, h * ratio];
    if (!showPoints) return;
    const context = dots.getContext("2d");
    context.scale(ratio, ratio);
    context.font = "bold 11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let i = 0; i < points.length / 2; i++) {
      const x = (w / 2) * (1 + points[2 * i] / box), y = (h / 2) * (1 - points[2 * i + 1] / box);
      context.fillStyle = COLOURS[(labels ? labels[i] : 0) % COLOURS.length];
      if (labels) context.fillText(labels[i], x, y);
      else context.fillRect(x - 2, y - 2, 4, 4);
    }
  }

  // A finger that swipes up or down scrolls the page; one that goes sideways, taps, or begins on the mark moves it.
  let dragging = false, tap = null;
  const stop = () => { dragging = false; tap = null; };
  function follow(event) {
    const { left, top, width: w, height: h } = plane.getBoundingClientRect();
    move(box * ((2 * (event.clientX - left)) / w - 1), box * (1 - (2 * (event.clientY - top)) / h));
  }
  plane.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    dragging = true;
    tap = event.pointerType === "touch" && !event.composedPath().includes(mark) ? [event.clientX, event.clientY] : null;
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
    const [z1, z2] = model.get("z"), step = event.shiftKey ? box / 6 : box / 30;
    const to = { ArrowLeft: [z1 - step, z2], ArrowRight: [z1 + step, z2], ArrowUp: [z1, z2 + step], ArrowDown: [z1, z2 - step], Home: [0, 0] }[event.key];
    if (!to) return;
    event.preventDefault();  // the page must not scroll, nor the notebook change cells
    event.stopPropagation();
    move(...to);
  });
  const resize = new ResizeObserver(() => showPoints && drawPoints());
  resize.observe(plane);
  model.on("change:z", show);
  show();
  return () => { resize.disconnect(); model.off("change:z", show); };
}

export default { render };
