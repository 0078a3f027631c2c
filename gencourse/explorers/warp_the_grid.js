// A flow of the plane: walk through its layers, and see the grid, the points and the density follow; drag a point.
// Runs with the state alone, no network. Text takes the page's colour, so it follows light and dark themes.

const STYLE = `
  .frame { font: 0.9rem/1.4 system-ui, sans-serif; margin: 0.5rem 0 1rem; padding: 0 6px; text-align: start; max-width: 46rem; display: grid; gap: 0.5rem; }
  .walk { display: flex; flex-wrap: wrap; gap: 0.4rem 0.6rem; align-items: center; }
  .walk label { display: flex; gap: 0.5rem; align-items: center; flex: 1 1 14rem; }
  input[type=range] { flex: 1; min-width: 6rem; accent-color: #0072b2; height: 1.8rem; margin: 0; touch-action: pan-y; }
  button { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor; border-radius: 0.4rem; padding: 0.3rem 0.6rem; min-height: 2.1rem; min-width: 2.1rem; cursor: pointer; }
  :is(button, input):focus-visible { outline: 3px solid #d55e00; outline-offset: 2px; }
  .layer { font-weight: 600; min-height: 2.8em; }
  .pictures { display: grid; grid-template-columns: 1fr 1fr; gap: 0.5rem 1.2rem; align-items: start; }
  .plane { position: relative; touch-action: pan-y; cursor: crosshair; user-select: none; -webkit-user-select: none; outline: 1px solid #8888; overflow: hidden; }
  .plane:focus-visible { outline: 3px solid #0072b2; outline-offset: 2px; }
  canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
  .mark { position: absolute; width: 16px; height: 16px; margin: -8px 0 0 -8px; border-radius: 50%; box-sizing: border-box;
          border: 3px solid #fff; outline: 2px solid #d55e00; box-shadow: 0 0 0 4px #0008; touch-action: none; }
  .mark::after { content: ""; position: absolute; inset: -17px; border-radius: 50%; }
  .name { font-size: 0.9em; margin-bottom: 0.2rem; }
  .left { display: grid; gap: 0.6rem; }
  .told { font-variant-numeric: tabular-nums; min-height: 8.4em; }
  .shown { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; }
  .shown label { display: flex; gap: 0.35rem; align-items: center; min-height: 1.7rem; }
  .help { opacity: 0.85; font-size: 0.9em; }
  @media (max-width: 36rem) {
    .pictures { grid-template-columns: 1fr; }
    .left { display: contents; }
    .told, .shown { order: 1; }
  }
`;
// Points have a contrast of 3 or more on white and on black, and another hue than the density.
const POINT = "#2a8cc8", LINE = "#808080", DENSITY = [230, 159, 0];
const ACROSS = 20, FINE = 4;  // squares of the grid along its longer side, and pieces of a square's edge
const BUDGET = 12;  // milliseconds a frame of getting ready, so that the page stays responsive

function unpack({ data }) {  // float32 in base64, little-endian
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

// The flow with its numbers unpacked once. Every layer is h_j exp(s_j) + t_j in both coordinates; a coupling has s = t = 0
// for the one that it keeps, and computes the other's from it. A fraction u of a layer takes u s and u t.
export function flow(layers) {
  const ready = layers.map((layer) => (layer.kind === "actnorm"
    ? { numbers: [...layer.log_scale, ...layer.bias] }
    : { ...layer, network: layer.network.map(({ weight, bias }) => ({ weight: unpack(weight), bias: unpack(bias) })) }));
  const depth = ready.length;

  // s of both coordinates, then t of both.
  function numbers(k, a, b) {
    const layer = ready[k];
    if (layer.numbers) return layer.numbers;
    let x = [layer.kept ? b : a];
    layer.network.forEach(({ weight, bias }, l) => {
      const y = new Float64Array(bias.length), inputs = x.length, last = l === layer.network.length - 1;
      for (let row = 0, i = 0; row < y.length; row++) {
        let sum = bias[row];
        for (let j = 0; j < inputs; j++) sum += weight[i++] * x[j];
        y[row] = last || sum > 0 ? sum : 0;
      }
      x = y;
    });
    const s = layer.bound * Math.tanh(x[0] / layer.bound), t = x[1];
    return layer.kept ? [s, 0, t, 0] : [0, s, 0, t];
  }

  // A point's way: before each layer and after the last, where it is, the layer's s and t there, and the log-determinant so far.
  function trace(a, b) {
    const way = new Float64Array(7 * (depth + 1));
    for (let k = 0, logDet = 0; k <= depth; k++) {
      const [s1, s2, t1, t2] = k < depth ? numbers(k, a, b) : [0, 0, 0, 0];
      way.set([a, b, s1, s2, t1, t2, logDet], 7 * k);
      a = a * Math.exp(s1) + t1;
      b = b * Math.exp(s2) + t2;
      logDet += s1 + s2;
    }
    return way;
  }

  // Where the point is after v layers, and the log-determinant of the way there.
  function at(way, v) {
    const k = Math.floor(v), u = v - k, [a, b, s1, s2, t1, t2, logDet] = way.subarray(7 * k, 7 * k + 7);
    return [a * Math.exp(u * s1) + u * t1, b * Math.exp(u * s2) + u * t2, logDet + u * (s1 + s2)];
  }

  // The point x that is at (a, b) after v layers.
  function back(a, b, v) {
    for (let k = Math.ceil(v) - 1; k >= 0; k--) {
      const u = Math.min(1, v - k), [s1, s2, t1, t2] = numbers(k, a, b);  // what is kept is still there
      a = (a - u * t1) * Math.exp(-u * s1);
      b = (b - u * t2) * Math.exp(-u * s2);
    }
    return [a, b];
  }

  // log p_Z(z) and log |det dz/dx| of a point by its way, nats.
  function parts(way) {
    const [a, b, logDet] = at(way, depth);
    return [-(a * a + b * b) / 2 - Math.log(2 * Math.PI), logDet];
  }
  return { depth, trace, at, back, parts };
}

function make(tag, attributes = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function render({ model, el }) {
  const layers = model.get("layers"), { depth: n, trace, at, back, parts } = flow(layers);
  const box = model.get("box"), reach = model.get("reach"), top = model.get("top");
  const format = (v) => { const text = v.toFixed(2); return (Number(text) ? text : text.replace("-", "")).replace("-", "\u2212"); };
  const factor = (log) => Math.exp(log).toPrecision(3);
  const pair = (a, b) => `(${format(a)}, ${format(b)})`;

  // The nodes of a fine grid over the box, row by row, and the points; the way of each is computed once.
  const side = Math.max(box[1] - box[0], box[3] - box[2]) / ACROSS;
  const [columns, rows] = [box[1] - box[0], box[3] - box[2]].map((length) => FINE * Math.max(1, Math.round(length / side)) + 1);
  const sent = unpack(model.get("points")), points = Array.from({ length: sent.length / 2 }, (_, i) => trace(sent[2 * i], sent[2 * i + 1]));
  const nodes = [], logs = [];  // ways, and log-densities of the data there

  const slider = make("input", { type: "range", min: 0, max: n, step: 0.05, "aria-label": "Layers" });
  const button = (text, name, action) => {
    const element = make("button", { type: "button", "aria-label": name }, [text]);
    element.addEventListener("click", action);
    return element;
  };
  const previous = () => go(Math.ceil(model.get("depth")) - 1), next = () => go(Math.floor(model.get("depth")) + 1);
  const walk = make("div", { class: "walk" }, [
    make("label", {}, [make("span", {}, ["data"]), slider, make("span", {}, ["noise"])]),
    button("\u2039", "back a layer", previous),
    button("\u203a", "on a layer", next),
  ]);
  const layer = make("div", { class: "layer" });

  function plane(name, [x0, x1, y0, y1], where) {
    const [density, lines] = ["density", "lines"].map((kind) => make("canvas", { class: kind, "aria-hidden": "true" }));
    const mark = make("div", { class: "mark" });
    const area = make("div", {
      class: "plane", tabindex: "0", role: "application", "aria-roledescription": "two-dimensional slider", style: `aspect-ratio: ${x1 - x0} / ${y1 - y0}`,
      "aria-label": `${name}. The arrow keys move the point, with Shift in larger steps; Home brings it back.`,
    }, [density, lines, mark]);
    return { area, density, lines, mark, limits: [x0, x1, y0, y1], where };
  }
  const data = plane("The plane of the data", box, () => 0);
  const warped = plane("The plane after the layers so far", [-reach, reach, -reach, reach], () => model.get("depth"));
  const planes = [data, warped];

  const told = make("output", { class: "told", "aria-live": "polite" });
  const shown = Object.fromEntries(["density", "grid", "points"].map((name) => {
    const toggle = make("input", { type: "checkbox" });
    toggle.checked = true;
    toggle.addEventListener("change", () => planes.forEach(draw));
    return [name, toggle];
  }));
  const choice = make("div", { class: "shown", role: "group", "aria-label": "Show" }, Object.entries(shown).map(([name, toggle]) => make("label", {}, [toggle, name])));
  const titled = (name, { area }) => make("div", {}, [make("div", { class: "name", "aria-hidden": "true" }, [name]), area]);
  const frame = make("div", { class: "frame", "aria-busy": "true" }, [
    walk,
    layer,
    make("div", { class: "pictures" }, [
      make("div", { class: "left" }, [titled("the data", data), told, choice]),
      titled("after the layers so far", warped),
    ]),
    make("div", { class: "help" }, ["Drag the ring in either picture, or focus a picture and use the arrow keys. The stronger the colour, the higher the density, on one scale for all layers."]),
  ]);
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  root.replaceChildren(make("style", {}, [STYLE]), frame);

  // The density is drawn opaque in greys, which leaves no seams between quadrangles, and the grey becomes opacity.
  function drawDensity({ density: canvas, limits: [x0, x1, y0, y1], where }, places) {
    const [width, height] = [canvas.width, canvas.height] = [canvas.clientWidth, canvas.clientHeight];
    if (!shown.density.checked || !places.length || !width) return;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "lighten";
    const sx = width / (x1 - x0), sy = height / (y1 - y0);
    for (let row = 0; row < rows - 1; row++) {
      for (let column = 0; column < columns - 1; column++) {
        const first = row * columns + column, corners = [first, first + 1, first + columns + 1, first + columns];
        const log = corners.reduce((sum, i) => sum + logs[i] - places[i][2], 0) / 4;
        const grey = Math.round(215 * Math.min(1, Math.exp(log) / top) ** 0.4);
        if (grey < 2) continue;
        context.fillStyle = context.strokeStyle = `rgb(${grey}, ${grey}, ${grey})`;
        context.beginPath();
        for (const i of corners) context.lineTo(sx * (places[i][0] - x0), sy * (y1 - places[i][1]));
        context.closePath();
        context.fill();
        context.stroke();
      }
    }
    const image = context.getImageData(0, 0, width, height), pixels = image.data;
    for (let i = 0; i < pixels.length; i += 4) {
      pixels[i + 3] = pixels[i];
      [pixels[i], pixels[i + 1], pixels[i + 2]] = DENSITY;
    }
    context.putImageData(image, 0, 0);
  }

  function draw(picture) {
    const { lines: canvas, limits: [x0, x1, y0, y1], where } = picture, v = where(), ratio = window.devicePixelRatio || 1;
    const places = nodes.length === rows * columns ? nodes.map((way) => at(way, v)) : [];
    drawDensity(picture, places);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight], context = canvas.getContext("2d");
    [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    context.scale(ratio, ratio);
    const to = ([a, b]) => [(width * (a - x0)) / (x1 - x0), (height * (y1 - b)) / (y1 - y0)];
    if (shown.grid.checked && places.length) {
      context.strokeStyle = LINE;
      context.lineWidth = 0.8;
      context.beginPath();
      for (let row = 0; row < rows; row += FINE) {
        for (let column = 0; column < columns; column++) context[column ? "lineTo" : "moveTo"](...to(places[row * columns + column]));
      }
      for (let column = 0; column < columns; column += FINE) {
        for (let row = 0; row < rows; row++) context[row ? "lineTo" : "moveTo"](...to(places[row * columns + column]));
      }
      context.stroke();
    }
    if (shown.points.checked) {
      context.fillStyle = POINT;
      for (const way of points) {
        const [a, b] = to(at(way, v));
        context.beginPath();
        context.arc(a, b, 1.8, 0, 2 * Math.PI);
        context.fill();
      }
    }
  }

  function describe(v) {
    if (!v) return "Before the first layer: the data as they are.";
    const k = Math.ceil(v) - 1, share = v - k < 1 ? ` (${Math.round(100 * (v - k))} % of it)` : "";
    const [kept, changed] = layers[k].kept ? ["second", "first"] : ["first", "second"];
    const does = layers[k].kind === "actnorm"
      ? "ActNorm scales and shifts both coordinates."
      : `a coupling keeps the ${kept} coordinate and moves the ${changed}.`;
    return `Layer ${k + 1} of ${n}${share}: ${does}`;
  }

  function tell() {
    const v = model.get("depth"), [x1, x2] = model.get("x"), way = trace(x1, x2), [a, b, logDet] = at(way, v), [z1, z2] = at(way, n);
    const [prior, whole] = parts(way), here = v && v < n ? ` Now it is at ${pair(a, b)}.` : "";
    planes.forEach(({ mark, limits: [l, r, d, u], where }) => {
      const [p, q] = where() ? [a, b] : [x1, x2];
      mark.style.left = `${(100 * (p - l)) / (r - l)}%`;
      mark.style.top = `${(100 * (u - q)) / (u - d)}%`;
    });
    slider.value = v;
    slider.setAttribute("aria-valuetext", layer.textContent = describe(v));
    told.replaceChildren(...[
      `x = ${pair(x1, x2)} goes to z = ${pair(z1, z2)}.${here}`,
      `Log-determinant so far ${format(logDet)}: areas around it are ${factor(logDet)} times as large.`,
      `log p(x) = log p(z) + that of all layers = ${format(prior)} ${whole < 0 ? "\u2212" : "+"} ${format(Math.abs(whole))} = ${format(prior + whole)} nats.`,
    ].map((line) => make("div", {}, [line])));
  }

  function go(v) {
    model.set("depth", Math.min(n, Math.max(0, v)));
    tell();
    draw(warped);
    model.save_changes();
  }
  function move(x) {
    if (!x.every(Number.isFinite)) return;
    model.set("x", x);
    tell();
    model.save_changes();
  }

  slider.addEventListener("input", () => go(Number(slider.value)));
  slider.addEventListener("keydown", (event) => {
    const step = { PageUp: next, PageDown: previous }[event.key];
    if (!step) return;
    event.preventDefault();
    step();
  });

  // A finger that swipes up or down scrolls the page; one that goes sideways, taps, or begins on the mark moves the point.
  const start = [...model.get("x")];
  for (const { area, mark, limits: [l, r, d, u], where } of planes) {
    let dragging = false, tap = null;
    const stop = () => { dragging = false; tap = null; };
    const put = (a, b) => move(back(Math.min(r, Math.max(l, a)), Math.min(u, Math.max(d, b)), where()));
    const follow = (event) => {
      const { left, top: up, width, height } = area.getBoundingClientRect();
      put(l + ((r - l) * (event.clientX - left)) / width, u - ((u - d) * (event.clientY - up)) / height);
    };
    area.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      dragging = true;
      tap = event.pointerType === "touch" && !event.composedPath().includes(mark) ? [event.clientX, event.clientY] : null;
      area.setPointerCapture(event.pointerId);
      area.focus({ preventScroll: true });
      event.preventDefault();
      if (!tap) follow(event);
    });
    area.addEventListener("pointermove", (event) => {
      if (tap && Math.abs(event.clientX - tap[0]) > Math.abs(event.clientY - tap[1]) + 4) tap = null;
      if (dragging && !tap) follow(event);
    });
    area.addEventListener("pointerup", (event) => { if (dragging) follow(event); stop(); });
    for (const end of ["pointercancel", "lostpointercapture"]) area.addEventListener(end, stop);
    area.addEventListener("keydown", (event) => {
      const step = ((r - l) / 80) * (event.shiftKey ? 5 : 1);
      const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }[event.key];
      if (!by && event.key !== "Home") return;
      event.preventDefault();  // the page must not scroll
      const [a, b] = at(trace(...model.get("x")), where());
      if (by) put(a + by[0], b + by[1]);
      else move([...start]);
    });
  }
  frame.addEventListener("keydown", (event) => event.key !== "Tab" && event.key !== "Escape" && event.stopPropagation());

  const drawAll = () => { tell(); planes.forEach(draw); };
  const resize = new ResizeObserver(() => planes.forEach(draw));
  for (const { area } of planes) resize.observe(area);
  (function prepare() {
    const end = performance.now() + BUDGET;
    while (nodes.length < rows * columns && performance.now() < end) {
      const i = nodes.length, column = i % columns, row = Math.floor(i / columns);
      const way = trace(box[0] + ((box[1] - box[0]) * column) / (columns - 1), box[2] + ((box[3] - box[2]) * row) / (rows - 1));
      const [prior, logDet] = parts(way);
      nodes.push(way);
      logs.push(prior + logDet);
    }
    if (nodes.length < rows * columns) return requestAnimationFrame(prepare);
    frame.removeAttribute("aria-busy");
    planes.forEach(draw);
  })();
  drawAll();
  for (const name of ["depth", "x"]) model.on(`change:${name}`, drawAll);
  return () => {
    resize.disconnect();
    for (const name of ["depth", "x"]) model.off(`change:${name}`, drawAll);
  };
}

export default { render };
