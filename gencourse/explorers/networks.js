// Small networks, run here: networks.py packs them. `unpack` is plane.js's, `sigmoid` that of pixels.js.

const BETWEEN = { tanh: Math.tanh, relu: (v) => Math.max(0, v) };

// A convolution: x is (channels, height, width), the weight (outputs, channels, kernel, kernel).
function convolve(x, { weight, bias, from: [channels, height, width], to: [outputs, down, across], kernel, stride, padding }) {
  const y = new Float64Array(outputs * down * across);
  for (let o = 0, at = 0; o < outputs; o++) {
    for (let i = 0; i < down; i++) {
      for (let j = 0; j < across; j++, at++) {
        let sum = bias[o];
        for (let c = 0; c < channels; c++) {
          for (let a = 0; a < kernel; a++) {
            const row = i * stride + a - padding;
            if (row < 0 || row >= height) continue;
            const w = ((o * channels + c) * kernel + a) * kernel, line = (c * height + row) * width;
            for (let b = 0; b < kernel; b++) {
              const column = j * stride + b - padding;
              if (column >= 0 && column < width) sum += weight[w + b] * x[line + column];
            }
          }
        }
        y[at] = sum;
      }
    }
  }
  return y;
}

function linear(x, { weight, bias }) {
  const y = Float64Array.from(bias), inputs = x.length;
  for (let row = 0, k = 0; row < y.length; row++) for (let i = 0; i < inputs; i++) y[row] += weight[k++] * x[i];
  return y;
}

// A network with its numbers unpacked once: numbers -> numbers.
export function network(layers) {
  const ready = layers.map((layer) => (layer.weight ? { ...layer, weight: unpack(layer.weight), bias: unpack(layer.bias) } : layer));
  return (x) => ready.reduce((h, layer) => {
    if (layer.kind === "linear") return linear(h, layer);
    return layer.kind === "conv" ? convolve(h, layer) : h.map(BETWEEN[layer.kind]);
  }, Float64Array.from(x));
}

// A VAE's decoder: z -> the expected grey levels.
export function pixelMeans({ layers, levels, inverse_scale }) {
  const decode = network(layers), sharpness = inverse_scale && unpack(inverse_scale);
  return (z) => decode(z).map((out, i) => {
    const centre = sigmoid(out);
    if (!sharpness) return centre;
    let mean = 0;  // a discretised logistic: the sum over k of P(level >= k)
    for (let k = 1; k < levels; k++) mean += sigmoid((centre - (k - 0.5) / (levels - 1)) * sharpness[i]);
    return mean;
  });
}
