// A photo to the mask of its pet, on the visitor's machine. This script does what Python does around the network, so the masks are the
// same. The originals are resize_rgb in petseg_nb.core.images, and count_squares, crop_square and enlarge in petseg_nb.core.tiles.
import * as ort from './ort.wasm.min.mjs'

ort.env.wasm.numThreads = 1 // several need headers that a static site can't send

const LARGEST = 100e6 // pixels
const STRIP = 2 ** 21 // pixels of a picture that are in memory at a time
const PREVIEW = 1024 // longest side of what is shown, in pixels; a small picture is shown at most three times as large
const AS_STORED = {colorSpaceConversion: 'none', premultiplyAlpha: 'none'} // as Pillow reads colours
const PET = [0, 0x72, 0xB2], OPACITY = .55 // of masks.tint

// Arithmetic

// Pillow's bilinear filter: which inputs each output is made of, and their weights, in steps of 2 ** -22 as Pillow's. Where it shrinks,
// all pixels below are averaged.
function taps(from, to) {
  const scale = from / to, support = Math.max(scale, 1)
  return Array.from({length: to}, (_, i) => {
    const centre = (i + .5) * scale
    const start = Math.max(0, Math.trunc(centre - support + .5)), end = Math.min(from, Math.trunc(centre + support + .5))
    const weights = Float64Array.from({length: end - start}, (_, k) => Math.max(0, 1 - Math.abs((start + k - centre + .5) / support)))
    const sum = weights.reduce((a, b) => a + b)
    return {start, weights: weights.map(w => Math.round(w / sum * 2 ** 22) / 2 ** 22)}
  })
}

// A half goes up; probabilities stay as they are
const rounded = (sum, output) => output instanceof Uint8ClampedArray ? Math.floor(sum + .5) : sum

// Rows resized: `rows` of `input`, each of `from` pixels with `stride` numbers, to `filter.length` pixels of `channels`
function resizeRows(input, rows, from, stride, channels, filter, output, first = 0) {
  for (let y = 0, o = first * filter.length * channels; y < rows; y++)
    for (const {start, weights} of filter)
      for (let c = 0; c < channels; c++, o++) {
        let sum = 0
        for (let k = 0, i = (y * from + start) * stride + c; k < weights.length; k++, i += stride) sum += weights[k] * input[i]
        output[o] = rounded(sum, output)
      }
  return output
}

// Columns resized: the output's rows from `top` to `bottom`, each of `width` numbers
function resizeColumns(input, width, filter, output, top = 0, bottom = filter.length) {
  for (let y = top, o = 0; y < bottom; y++) {
    const {start, weights} = filter[y]
    for (let x = 0; x < width; x++, o++) {
      let sum = 0
      for (let k = 0, i = start * width + x; k < weights.length; k++, i += width) sum += weights[k] * input[i]
      output[o] = rounded(sum, output)
    }
  }
  return output
}

const round = x => Math.abs(x % 1) === .5 ? 2 * Math.round(x / 2) : Math.round(x) // a half to the even side, as Python does

// How many squares the network sees of a picture: one, unless it is longer than 3 : 1
function countSquares(width, height) {
  const ratio = Math.max(width, height) / Math.min(width, height)
  return ratio <= 3 ? 1 : Math.min(round(ratio), 32)
}

// Pictures

function newCanvas(width, height) {
  const canvas = document.createElement('canvas')
  Object.assign(canvas, {width, height})
  return canvas.getContext('2d', {willReadFrequently: true})
}

// The picture's pixels, some rows at a time: calls `use(data, top, rows)` with red, green, blue, opacity per pixel
function inStrips(bitmap, use) {
  const {width, height} = bitmap, step = Math.min(height, Math.max(1, Math.floor(STRIP / width))), context = newCanvas(width, step)
  for (let top = 0; top < height; top += step) {
    const rows = Math.min(step, height - top)
    context.clearRect(0, 0, width, step)
    context.drawImage(bitmap, 0, -top)
    use(context.getImageData(0, 0, width, rows), top, rows)
  }
}

// Rows first, unless columns first is less work, as Pillow decides: in between, colours are rounded to bytes
function resizePicture(bitmap, width, height) {
  const across = taps(bitmap.width, width), down = taps(bitmap.height, height), small = new Uint8ClampedArray(width * height * 3)
  if (bitmap.width * height < width * bitmap.height)
    return resizeRows(shrinkColumns(bitmap, down), height, bitmap.width, 3, 3, across, small)
  const narrow = new Uint8ClampedArray(bitmap.height * width * 3)
  inStrips(bitmap, ({data}, top, rows) => resizeRows(data, rows, bitmap.width, 4, 3, across, narrow, top))
  return resizeColumns(narrow, width * 3, down, small)
}

// What `resizeColumns` does, for a picture whose rows come in strips
function shrinkColumns(bitmap, filter) {
  const {width} = bitmap, total = new Float64Array(filter.length * width * 3)
  inStrips(bitmap, ({data}, top, rows) => filter.forEach(({start, weights}, i) => {
    for (let y = Math.max(start, top); y < Math.min(start + weights.length, top + rows); y++)
      for (let x = 0, k = (y - top) * width * 4, o = i * width * 3; x < width; x++, k += 4)
        for (let c = 0; c < 3; c++) total[o++] += weights[y - start] * data[k + c]
  }))
  return Uint8ClampedArray.from(total, sum => Math.floor(sum + .5))
}

// Probabilities resized to `width` x `height`: a function that gives some of the rows
function enlarge(map, width, height) {
  const wide = resizeRows(map.data, map.height, map.width, 1, 1, taps(map.width, width), new Float32Array(map.height * width))
  const down = taps(map.height, height)
  return (top, bottom) => resizeColumns(wide, width, down, new Float32Array((bottom - top) * width), top, bottom)
}

// Colour pixels in place by their probabilities
const VIEWS = {
  overlay(data, i) { for (let c = 0; c < 3; c++) data[i + c] += OPACITY * (PET[c] - data[i + c]) },
  cutout() {},
  mask(data, i) { data[i] = data[i + 1] = data[i + 2] = data[i + 3] = 255 }
}
const BEHIND = {
  overlay() {},
  cutout(data, i) { data[i] = data[i + 1] = data[i + 2] = data[i + 3] = 0 },
  mask(data, i) { data[i] = data[i + 1] = data[i + 2] = 0; data[i + 3] = 255 }
}
function paint(view, data, probability, threshold) {
  let pet = 0
  for (let k = 0; k < probability.length; k++) {
    const found = probability[k] > threshold
    pet += found
    ;(found ? VIEWS : BEHIND)[view](data, 4 * k)
  }
  return pet / probability.length
}

// The network

let network // a promise of {session, size}

async function load() {
  const answer = await fetch('model.json')
  const {size} = await answer.json(), session = await ort.InferenceSession.create('model.onnx', {executionProviders: ['wasm']})
  await run(session, new Uint8Array(size * size * 3), size) // the first run takes longer, so it is made before somebody waits for it
  return {session, size}
}

async function run(session, pixels, size) {
  const {probability} = await session.run({image: new ort.Tensor('uint8', pixels, [1, size, size, 3])})
  return probability.data
}

// A picture's probabilities at the size at which the network sees it, square by square
async function predict(bitmap) {
  const {session, size} = await network, {width, height} = bitmap, n = countSquares(width, height), wide = width > height
  const map = {data: new Float32Array(n * size * size), width: wide ? n * size : size, height: wide ? size : n * size}
  for (let k = 0; k < n; k++) {
    const square = n === 1 ? bitmap : await cropSquare(bitmap, k, n)
    const probability = await run(session, Uint8Array.from(resizePicture(square, size, size)), size)
    for (let y = 0; y < size; y++) map.data.set(probability.subarray(y * size, (y + 1) * size), wide ? y * map.width + k * size : (k * size + y) * size)
  }
  return map
}

// One of `n` equal parts along the longer side
function cropSquare(bitmap, k, n) {
  const {width, height} = bitmap, [start, end] = [k, k + 1].map(i => Math.floor(Math.max(width, height) * i / n))
  return width > height ? createImageBitmap(bitmap, start, 0, end - start, height, AS_STORED) : createImageBitmap(bitmap, 0, start, width, end - start, AS_STORED)
}

// The page

const find = id => document.getElementById(id)
const picture = find('picture'), slider = find('threshold'), result = find('result')
let shown // {name, bitmap, map, base, probability}: the picture, its probabilities, and both at the size of the preview
let turn = 0 // counts pictures, so that a slow one does not replace a later one

function say(state, text) {
  document.body.dataset.state = state
  find('status').textContent = text
}

const percent = share => share > 0 && share < .01 ? 'less than 1 %' : `${Math.round(100 * share)} %`
const view = () => document.querySelector('[name=view]:checked').value

function draw() {
  const {name, base, probability} = shown, image = new ImageData(base.data.slice(), base.width)
  const share = paint(view(), image.data, probability, +slider.value)
  picture.getContext('2d').putImageData(image, 0, 0)
  picture.setAttribute('aria-label', `${name}, ${view()}: the pet takes ${percent(share)} of the picture`)
  find('value').textContent = (+slider.value).toFixed(2)
  return share
}

function describe(share) {
  const {name, bitmap, seconds} = shown, time = seconds ? ` (${seconds.toFixed(1)} s)` : ''
  if (!share) return say('done', `${name}: no pet found. Lower the threshold, or try another photo.`)
  say('done', `${name}: the pet takes ${percent(share)} of ${bitmap.width} × ${bitmap.height} pixels${time}.`)
}

async function decode(blob, name) {
  let bitmap
  try { bitmap = await createImageBitmap(blob, {imageOrientation: 'from-image', ...AS_STORED}) }
  catch { throw new Error(`${name} can't be read. Use a JPEG, PNG, WebP or GIF; a HEIC photo has to be exported as JPEG.`) }
  const {width, height} = bitmap
  if (width * height > LARGEST) throw new Error(`${name} has ${Math.round(width * height / 1e6)} million pixels; at most 100 million fit here.`)
  return bitmap
}

async function show(blob, name) {
  const mine = ++turn
  say('busy', `Looking at ${name} …`)
  try {
    await network.catch(() => { throw new Error('The network could not be loaded. Reload the page; in a copy of the repository, run python scripts/demo.py first.') })
    const start = performance.now(), bitmap = await decode(blob, name)
    await new Promise(done => setTimeout(done)) // lets the page show what was said
    const map = await predict(bitmap)
    if (mine !== turn) return
    const scale = Math.min(3, PREVIEW / Math.max(bitmap.width, bitmap.height))
    const [width, height] = [bitmap.width, bitmap.height].map(side => Math.max(1, Math.round(side * scale)))
    const context = newCanvas(width, height)
    context.imageSmoothingQuality = 'high'
    context.drawImage(bitmap, 0, 0, width, height)
    shown = {name, bitmap, map, base: context.getImageData(0, 0, width, height), probability: enlarge(map, width, height)(0, height)}
    Object.assign(picture, {width, height})
    result.hidden = false
    const share = draw()
    shown.seconds = (performance.now() - start) / 1000
    describe(share)
  } catch (error) {
    if (mine !== turn) return
    result.hidden = true
    say('error', error.message)
  }
}

// The mask or the cutout at the picture's own size, as a PNG
async function download(kind) {
  const {name, bitmap, map} = shown, {width, height} = bitmap, context = newCanvas(width, height), rows = enlarge(map, width, height)
  inStrips(bitmap, (strip, top, count) => {
    paint(kind, strip.data, rows(top, top + count), +slider.value)
    context.putImageData(strip, 0, top)
  })
  const blob = await new Promise(done => context.canvas.toBlob(done))
  if (!blob) return say('error', `This browser can't make a picture of ${width} × ${height} pixels.`)
  const link = document.createElement('a')
  Object.assign(link, {href: URL.createObjectURL(blob), download: `${name.replace(/\.\w+$/, '')}_${kind}.png`})
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}

find('file').addEventListener('change', ({target}) => {
  if (target.files.length) show(target.files[0], target.files[0].name)
  target.value = '' // so that the same file can be chosen again
})
for (const button of document.querySelectorAll('[data-sample]'))
  button.addEventListener('click', async () => show(await (await fetch(button.dataset.sample)).blob(), button.dataset.sample))
for (const button of document.querySelectorAll('[data-download]')) button.addEventListener('click', () => download(button.dataset.download))
for (const radio of document.querySelectorAll('[name=view]')) radio.addEventListener('change', draw)
slider.addEventListener('input', draw)
slider.addEventListener('change', () => describe(draw()))

for (const kind of ['dragover', 'dragleave', 'drop']) document.addEventListener(kind, event => {
  event.preventDefault()
  find('drop').classList.toggle('over', kind === 'dragover')
  const [file] = kind === 'drop' ? event.dataTransfer.files : []
  if (file) show(file, file.name)
})

network = load()
network.then(() => { if (!turn) say('ready', '') }, () => say('error', 'The network could not be loaded. Reload the page; in a copy of the repository, run python scripts/demo.py first.'))
