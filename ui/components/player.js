// A short clip that starts at one moment, exactly, and then loops inside its shot. Data: {key, clip: base64 mp4, label,
// offset, from, to: seconds in the clip, the last two where the shot begins and ends, start: seconds of the video at which the
// clip begins, frames: seconds in the clip at which each frame comes on display, number: of the frame on display at the offset}.
const playing = new WeakMap()
const SLACK = 0.002

function blobUrl(base64) {
  const bytes = Uint8Array.from(atob(base64), character => character.charCodeAt(0))
  return URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }))
}

// The place of the frame that is on display at a time.
function placeAt(frames, seconds) {
  let [low, high] = [0, frames.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (frames[middle] <= seconds + SLACK) low = middle + 1
    else high = middle
  }
  return Math.max(low - 1, 0)
}

function clock(seconds) {
  const tenths = Math.floor(seconds * 10 + 1e-4)
  const whole = Math.floor(tenths / 10)
  const pad = number => String(number).padStart(2, "0")
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60]
  return `${hours ? `${hours}:${pad(minutes)}` : minutes}:${pad(whole % 60)}.${tenths % 10}`
}

export default function (component) {
  const { data, parentElement } = component
  const root = parentElement.querySelector(".root")
  if (!root || !data) return
  const release = () => {
    const url = playing.get(parentElement)?.url
    // Not at once: a clip that is closed while the browser still reads it would be an error on the console.
    if (url) setTimeout(() => URL.revokeObjectURL(url), 10000)
    playing.delete(parentElement)
  }
  if (playing.get(parentElement)?.key === data.key) return release
  release()

  const url = blobUrl(data.clip)
  playing.set(parentElement, { key: data.key, url })
  const video = document.createElement("video")
  video.controls = true
  video.muted = true
  video.playsInline = true
  video.preload = "auto"
  video.disablePictureInPicture = true
  video.setAttribute("aria-label", data.label)
  video.dataset.offset = data.offset
  video.dataset.from = data.from
  video.dataset.to = data.to
  const now = element("span", "now")
  const home = placeAt(data.frames, data.offset)
  const last = placeAt(data.frames, data.to - 2 * SLACK)
  let looping = true

  const toMoment = () => {
    looping = true
    video.currentTime = data.offset
  }
  const play = () => video.play().catch(() => {})
  const tell = seconds => {
    const place = placeAt(data.frames, seconds)
    now.textContent = `${clock(data.start + seconds)} in the video, frame ${data.number + place - home}`
    return place
  }
  const seen = seconds => {
    const place = tell(seconds)
    // Someone who drags the clip out of the shot wants to see what is there.
    if (place > last + 2 || seconds < data.from - 0.1) looping = false
    if (looping && place >= last && !video.paused && !video.seeking) video.currentTime = data.from + SLACK
  }
  if (video.requestVideoFrameCallback) {
    const each = (_, frame) => {
      seen(frame.mediaTime)
      video.requestVideoFrameCallback(each)
    }
    video.requestVideoFrameCallback(each)
  } else {
    video.ontimeupdate = () => seen(video.currentTime)
  }
  video.addEventListener("ended", () => {
    video.currentTime = looping ? data.from + SLACK : 0
    play()
  })
  video.addEventListener("loadedmetadata", toMoment, { once: true })
  let begins = 0
  video.addEventListener("seeked", () => {
    begins = video.currentTime
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play()
  }, { once: true })
  video.addEventListener("playing", () => { video.dataset.firstPlay = begins }, { once: true })
  video.src = url
  tell(data.offset)

  const again = element("button", "again", "↺ Play from this moment")
  again.type = "button"
  again.onclick = () => { toMoment(); play() }
  const foot = element("div", "foot")
  foot.append(again, now)
  root.replaceChildren(video, foot)
  return release
}
