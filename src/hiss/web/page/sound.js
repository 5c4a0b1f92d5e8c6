// Pictures of sound, drawn here: a waveform above a mel spectrogram, 80 dB from bright to dark.

const COLOURS = [[11, 7, 18], [74, 18, 108], [170, 45, 100], [242, 115, 60], [250, 220, 140]];
const BANDS = 80;

// Returns {samples, rate}: the first channel of a file, or null for one that the browser does not know.
export async function decode(content, rate = 44100) {
  try {
    const buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(content);
    return { samples: buffer.getChannelData(0), rate: buffer.sampleRate };
  } catch {
    return null;
  }
}

// Draws sound on a canvas, and where span = [from, to] in seconds is given, marks it.
export function draw(canvas, { samples, rate }, span = null) {
  const { width, height } = canvas, middle = Math.round(height / 4), context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-4);
  context.fillStyle = "#7fb2e5";
  for (let x = 0; x < width; x++) {
    let low = 1, high = -1;
    const end = Math.max(((x + 1) * samples.length) / width, (x * samples.length) / width + 1);
    for (let at = Math.floor((x * samples.length) / width); at < end && at < samples.length; at++) {
      low = Math.min(low, samples[at] / peak);
      high = Math.max(high, samples[at] / peak);
    }
    if (high >= low) context.fillRect(x, middle * (1 - 0.95 * high), 1, Math.max(1, 0.95 * middle * (high - low)));
  }
  const image = spectrogram(samples, rate, Math.ceil(width / 2));
  const small = new OffscreenCanvas(image.width, image.height);
  small.getContext("2d").putImageData(image, 0, 0);
  context.drawImage(small, 0, 2 * middle, width, height - 2 * middle);
  if (span) {
    const [from, to] = span.map((seconds) => (seconds * rate * width) / samples.length);
    context.fillStyle = "rgb(255 255 255 / 35%)";
    context.fillRect(from, 0, to - from, height);
  }
}

// Returns a file with mono samples in [-1, 1]: 16-bit WAV.
export function wav({ samples, rate }, name) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const word = (at, text) => [...text].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  word(0, "RIFF"), view.setUint32(4, 36 + 2 * samples.length, true), word(8, "WAVEfmt "), view.setUint32(16, 16, true);
  [1, 1].forEach((value, index) => view.setUint16(20 + 2 * index, value, true));
  view.setUint32(24, rate, true), view.setUint32(28, 2 * rate, true), view.setUint16(32, 2, true);
  view.setUint16(34, 16, true), word(36, "data"), view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, at) => view.setInt16(44 + 2 * at, Math.max(-1, Math.min(1, value)) * 32767, true));
  return new File([view], name, { type: "audio/wav" });
}

function spectrogram(samples, rate, columns) {
  const size = Math.max(64, 2 ** Math.round(Math.log2(0.05 * rate))), image = new ImageData(columns, BANDS);
  const window = Float64Array.from({ length: size }, (_, at) => 0.5 - 0.5 * Math.cos((2 * Math.PI * at) / size));
  const edges = Array.from({ length: BANDS + 2 }, (_, band) => (hertz((mel(rate / 2) * band) / (BANDS + 1)) * size) / rate);
  const power = new Float64Array(columns * BANDS);
  for (let column = 0; column < columns; column++) {
    const start = Math.round(((column + 0.5) * samples.length) / columns - size / 2);
    const real = window.map((weight, at) => weight * (samples[start + at] ?? 0)), imaginary = new Float64Array(size);
    transform(real, imaginary);
    for (let band = 0; band < BANDS; band++) {
      const [low, centre, high] = edges.slice(band, band + 3);
      let sum = 0, total = 0;
      for (let bin = Math.floor(low); bin <= Math.min(size / 2, Math.ceil(high)); bin++) {
        const near = bin < centre ? 1 - (centre - bin) / Math.max(1, centre - low) : 1 - (bin - centre) / Math.max(1, high - centre);
        if (near > 0) (sum += near * (real[bin] ** 2 + imaginary[bin] ** 2)), (total += near);
      }
      power[(BANDS - 1 - band) * columns + column] = total ? sum / total : 0;
    }
  }
  const loudest = power.reduce((most, value) => Math.max(most, value), 1e-9);
  power.forEach((value, at) => {
    const shade = Math.max(0, 1 + (10 * Math.log10(Math.max(value / loudest, 1e-12))) / 80) * (COLOURS.length - 1);
    const below = Math.min(Math.floor(shade), COLOURS.length - 2);
    const mixed = COLOURS[below].map((part, index) => part + (shade - below) * (COLOURS[below + 1][index] - part));
    image.data.set([...mixed, 255], 4 * at);
  });
  return image;
}

const mel = (value) => 2595 * Math.log10(1 + value / 700);
const hertz = (value) => 700 * (10 ** (value / 2595) - 1);

// The Fourier transform in place, of a power of two. Source: Cooley, Tukey 1965.
function transform(real, imaginary) {
  const size = real.length;
  for (let at = 1, turned = 0; at < size; at++) {
    let bit = size >> 1;
    for (; turned & bit; bit >>= 1) turned ^= bit;
    turned ^= bit;
    if (at < turned) for (const part of [real, imaginary]) [part[at], part[turned]] = [part[turned], part[at]];
  }
  for (let length = 2; length <= size; length *= 2) {
    for (let at = 0; at < length / 2; at++) {
      const cosine = Math.cos((2 * Math.PI * at) / length), sine = -Math.sin((2 * Math.PI * at) / length);
      for (let even = at; even < size; even += length) {
        const odd = even + length / 2;
        const x = real[odd] * cosine - imaginary[odd] * sine, y = real[odd] * sine + imaginary[odd] * cosine;
        (real[odd] = real[even] - x), (imaginary[odd] = imaginary[even] - y), (real[even] += x), (imaginary[even] += y);
      }
    }
  }
}
