// Arithmetic with latent vectors: choose samples for three terms, and see what the generator draws at A - B + C.
// Runs with the state alone, no network. Text takes the page's colour, so it follows light and dark themes.

const STYLE = `
  .frame { font: 0.9rem/1.4 system-ui, sans-serif; margin: 0.5rem 0 1rem; display: flex; flex-direction: column; gap: 0.8rem; max-width: 46rem; }
  .sum { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 0.5rem; border: 0; padding: 0; margin: 0; }
  .term { width: 8rem; display: flex; flex-direction: column; gap: 0.2rem; padding: 0.3rem; border: 2px solid #8886; border-radius: 6px; cursor: pointer; box-sizing: border-box; }
  .term:has(input:checked) { border-color: #0072b2; box-shadow: 0 0 0 1px #0072b2; }
  .term:has(input:focus-visible) { outline: 3px solid #0072b2; outline-offset: 2px; }
  .term .row { display: flex; gap: 0.3rem; align-items: baseline; }
  .term .name { min-height: 2.8em; }
  .sign { font-size: 1.6rem; margin-top: 2.4rem; }
  .result { cursor: default; border-color: transparent; }
  canvas { display: block; width: 100%; image-rendering: pixelated; background: #7f7f7f; }
  .samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(3.2rem, 1fr)); gap: 0.3rem; }
  .sample { padding: 0; border: 3px solid transparent; background: none; cursor: pointer; position: relative; border-radius: 4px; }
  .sample[aria-pressed=true] { border-color: #0072b2; }
  .sample:focus-visible { outline: 3px solid #d55e00; outline-offset: 1px; }
  .sample .marks { position: absolute; left: 2px; top: 2px; font: bold 0.75rem system-ui; color: #fff; background: #000b; border-radius: 3px; padding: 0 3px; }
  .sample .marks:empty { display: none; }
  .controls { display: flex; flex-wrap: wrap; gap: 0.8rem; align-items: center; }
  .controls input[type=range] { width: 10rem; }
  button.plain { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor; border-radius: 0.4rem; padding: 0.3rem 0.6rem; min-height: 2.1rem; cursor: pointer; }
  button.plain:focus-visible, input[type=range]:focus-visible { outline: 3px solid #d55e00; outline-offset: 2px; }
  .help { opacity: 0.8; font-size: 0.85em; }
  output { font-variant-numeric: tabular-nums; }
`;

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

// One transposed convolution: every input pixel stamps its kernel, `stride` pixels from the one before; what the padding
// takes away is never written. x is (inputs, height, width), the weight (inputs, outputs, kh, kw).
export function stamp(x, { weight, bias, from: [inputs, height, width], to: [outputs, up, across], kernel: [kh, kw], stride, padding }) {
  const y = new Float64Array(outputs * up * across);
  for (let o = 0; o < outputs; o++) y.fill(bias[o], o * up * across, (o + 1) * up * across);
  for (let c = 0; c < inputs; c++) {
    for (let i = 0; i < height; i++) {
      for (let j = 0; j < width; j++) {
        const value = x[(c * height + i) * width + j];
        if (value === 0) continue;  // after a ReLU, half of them
        for (let o = 0; o < outputs; o++) {
          for (let a = 0; a < kh; a++) {
            const row = i * stride + a - padding;
            if (row < 0 || row >= up) continue;
            const at = (o * up + row) * across, w = ((c * outputs + o) * kh + a) * kw;
            for (let b = 0; b < kw; b++) {
              const column = j * stride + b - padding;
              if (column >= 0 && column < across) y[at + column] += value * weight[w + b];
            }
          }
        }
      }
    }
  }
  return y;
}

// The generator with its numbers unpacked once: z -> grey levels, not rounded, channel, row, column.
export function generator({ layers, levels }) {
  const ready = layers.map((layer) => ({ ...layer, weight: unpack(layer.weight), bias: unpack(layer.bias) }));
  return (z) => {
    let x = Float64Array.from(z);
    for (const layer of ready) {
      x = stamp(x, layer);
      x = layer.activation === "relu" ? x.map((v) => Math.max(0, v)) : x.map(Math.tanh);
    }
    return x.map((v) => ((v + 1) / 2) * (levels - 1));
  };
}

// c + strength * (a - b), stretched to length sqrt(D), near which draws of the prior lie; a term is a list of vectors.
export function arithmetic(terms, strength) {
  const dimension = terms.flat()[0].length;
  const sum = new Float64Array(dimension);
  terms.forEach((rows, i) => {
    const sign = [strength, -strength, 1][i];
    for (const row of rows) for (let d = 0; d < dimension; d++) sum[d] += (sign * row[d]) / rows.length;
  });
  const length = Math.hypot(...sum);
  return length ? sum.map((v) => (v * Math.sqrt(dimension)) / length) : sum;
}

function paint(canvas, image, [channels, height, width], levels) {
  const context = canvas.getContext("2d"), pixels = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) {
      pixels.data[4 * i + c] = Math.round((255 * image[channels === 3 ? c * width * height + i : i]) / (levels - 1));
    }
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

function make(tag, attributes = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function render({ model, el }) {
  const network = model.get("network"), names = model.get("names");
  const { shape, levels } = network, [, height, width] = shape;
  const draw = generator(network), packed = model.get("z"), flat = unpack(packed), [count, dimension] = packed.shape;
  const z = Array.from({ length: count }, (_, i) => Array.from(flat.subarray(i * dimension, (i + 1) * dimension)));
  const letters = ["A", "B", "C"], signs = ["", "\u2212", "+"], start = model.get("slots").map((slot) => [...slot]);
  const whole = model.get("strength");
  const picture = () => make("canvas", { width, height, role: "img" });
  let active = 0;

  // The sum: three terms to choose, and the result.
  const group = `term-${Math.random().toString(36).slice(2)}`;
  const terms = letters.map((letter, i) => {
    const radio = make("input", { type: "radio", name: group, "aria-label": `Choose samples for ${letter}: ${names[i]}` });
    radio.checked = i === active;
    radio.addEventListener("change", () => { active = i; show(); });
    const canvas = picture(), number = make("span");
    const term = make("label", { class: "term" }, [canvas, make("span", { class: "row" }, [radio, make("b", {}, [letter]), number]), make("span", { class: "name" }, [names[i]])]);
    return { canvas, number, radio, term };
  });
  const result = picture(), says = make("output", { "aria-live": "polite" });
  const sum = make("fieldset", { class: "sum", "aria-label": "The terms of the sum" });
  terms.forEach(({ term }, i) => sum.append(...(signs[i] ? [make("span", { class: "sign" }, [signs[i]])] : []), term));
  sum.append(make("span", { class: "sign" }, ["="]), make("div", { class: "term result" }, [result, says]));

  // How much of the difference is added, and ways back.
  const slider = make("input", { type: "range", min: "0", max: "1.5", step: "0.05", "aria-label": "How much of A minus B is added" });
  const amount = make("output");
  slider.addEventListener("input", () => { model.set("strength", Number(slider.value)); model.save_changes(); show(); });
  const empty = make("button", { class: "plain", type: "button" }, ["empty this term"]);
  empty.addEventListener("click", () => change((slots) => { slots[active] = []; }));
  const again = make("button", { class: "plain", type: "button" }, ["as at the start"]);
  again.addEventListener("click", () => {
    model.set("strength", whole);
    change((slots) => start.forEach((slot, i) => { slots[i] = [...slot]; }));
  });
  const controls = make("div", { class: "controls" }, [make("label", {}, ["C + ", slider, " ", amount, " \u00d7 (A \u2212 B)"]), empty, again]);

  // The samples to choose from.
  const samples = z.map((vector, i) => {
    const canvas = picture(), marks = make("span", { class: "marks" });
    canvas.setAttribute("aria-hidden", "true");
    const button = make("button", { class: "sample", type: "button" }, [canvas, marks]);
    button.addEventListener("click", () => change((slots) => {
      slots[active] = slots[active].includes(i) ? slots[active].filter((j) => j !== i) : [...slots[active], i];
    }));
    paint(canvas, draw(vector), shape, levels);
    return { button, marks };
  });
  const grid = make("div", { class: "samples", role: "group", "aria-label": "Samples to choose from" }, samples.map(({ button }) => button));
  const help = make("div", { class: "help" }, ["Choose a term, then click samples to put them in or take them out. A term with several samples is their mean."]);
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  root.replaceChildren(make("style", {}, [STYLE]), make("div", { class: "frame" }, [sum, controls, help, grid]));

  function change(edit) {
    const slots = model.get("slots").map((slot) => [...slot]);
    edit(slots);
    model.set("slots", slots);
    model.save_changes();
    show();
  }

  function show() {
    const slots = model.get("slots"), strength = model.get("strength");
    const chosen = slots.map((slot) => slot.map((i) => z[i]));
    slider.value = String(strength);
    amount.textContent = strength.toFixed(2);
    terms.forEach(({ canvas, number }, i) => {
      const n = chosen[i].length;
      number.textContent = n === 1 ? "one sample" : `mean of ${n}`;
      if (n) paint(canvas, draw(arithmetic([[], [], chosen[i]], 1)), shape, levels);
      else canvas.getContext("2d").clearRect(0, 0, width, height);
      if (!n) number.textContent = "empty";
      canvas.setAttribute("aria-label", n ? `What the generator draws at ${letters[i]}, ${number.textContent}` : `${letters[i]} is empty`);
    });
    const ready = chosen.every((rows) => rows.length);
    if (ready) paint(result, draw(arithmetic(chosen, strength)), shape, levels);
    else result.getContext("2d").clearRect(0, 0, width, height);
    const sum = strength === 1 ? "A \u2212 B + C" : `C + ${strength.toFixed(2)} \u00d7 (A \u2212 B)`;
    says.textContent = ready ? `${sum}, of ${chosen.map((rows) => rows.length).join(", ")} samples` : "every term needs a sample";
    result.setAttribute("aria-label", ready ? `The face at ${says.textContent}` : "No result yet");
    samples.forEach(({ button, marks }, i) => {
      const held = letters.filter((_, k) => slots[k].includes(i));
      marks.textContent = held.join("");
      button.setAttribute("aria-pressed", String(slots[active].includes(i)));
      button.setAttribute("aria-label", `Sample ${i + 1}${held.length ? `, in ${held.join(" and ")}` : ""}`);
    });
  }
  model.on("change:slots", show);
  model.on("change:strength", show);
  show();
  return () => { model.off("change:slots", show); model.off("change:strength", show); };
}

export default { render };
