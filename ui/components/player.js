// A short clip that starts at one moment, exactly. Data: {key, clip: base64 mp4, offset: seconds, label}.
const playing = new WeakMap()

function blobUrl(base64) {
  const bytes = Uint8Array.from(atob(base64), character => character.charCodeAt(0))
  return URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }))
}

export default function (component) {
  const { data, parentElement } = component
  const root = parentElement.querySelector(".root")
  if (!root || !data) return
  const release = () => {
    const url = playing.get(parentElement)?.url
    if (url) URL.revokeObjectURL(url)
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
  video.setAttribute("aria-label", data.label)
  video.dataset.offset = data.offset
  const toMoment = () => {
    video.currentTime = data.offset
  }
  const play = () => video.play().catch(() => {})
  video.addEventListener("loadedmetadata", toMoment, { once: true })
  video.addEventListener("seeked", () => {
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play()
  }, { once: true })
  video.addEventListener("playing", () => { video.dataset.firstPlay = video.currentTime }, { once: true })
  video.src = url

  const again = document.createElement("button")
  again.type = "button"
  again.textContent = "↺ Play from this moment"
  again.onclick = () => { toMoment(); play() }
  root.replaceChildren(video, again)
  return release
}
