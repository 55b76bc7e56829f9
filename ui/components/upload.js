// Sends video files to the server, one after another, with their progress. Data: {ticket, most: bytes of one file, busy}.
// Trigger `done` says how many files were received: {sent}. The state lasts as long as the component stands on the page.
const states = new WeakMap()
const NO_VIDEO = /^(image|text|audio|font)\/|^application\/(pdf|zip|json|x-tar|gzip)/

// What may be a video, and the list that says more of the videos of a folder.
function isWanted(name, file) {
  return name.split("/").pop() === "videos.json" || !NO_VIDEO.test(file.type)
}

// As `readable_bytes` of the engine writes them.
function readable(bytes) {
  let power = 0
  while (power < 4 && Math.round(bytes / 1000 ** power) >= 1000) power += 1
  const value = bytes / 1000 ** power
  return `${value < 99.95 ? +value.toFixed(1) : Math.round(value)} ${["B", "kB", "MB", "GB", "TB"][power]}`
}

function addressOf(ticket, name) {
  const base = location.pathname.replace(/\/+$/, "").replace(/\/[^/]*$/, "")
  return `${base}/_upload/${ticket}/${name.split("/").map(encodeURIComponent).join("/")}`
}

function send(ticket, name, file, onProgress, state) {
  return new Promise(resolve => {
    const request = new XMLHttpRequest()
    state.request = request
    request.open("PUT", addressOf(ticket, name))
    request.upload.onprogress = event => onProgress(event.loaded)
    request.onload = () => resolve(request.status === 201 ? "" : request.responseText.slice(0, 300) || `Not taken (${request.status}).`)
    request.onerror = () => resolve("The connection to the server broke off; try again.")
    request.onabort = () => resolve("Stopped.")
    request.send(file)
  })
}

// Files of what was dropped, with the folders that they lie in.
async function dropped(transfer) {
  const entries = [...transfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean)
  if (!entries.length) return [...transfer.files].map(file => [file.name, file])
  const found = []
  const walk = async (entry, folder) => {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject))
      found.push([folder + entry.name, file])
      return
    }
    const reader = entry.createReader()
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))
      if (!some.length) return
      for (const inner of some) await walk(inner, `${folder}${entry.name}/`)
    }
  }
  for (const entry of entries) await walk(entry, "")
  return found
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".root")
  if (!root || !data) return
  const state = states.get(parentElement) ?? {}
  states.set(parentElement, state)
  state.data = data
  state.done = sent => setTriggerValue("done", { sent })
  if (state.zone) {
    state.zone.classList.toggle("busy", Boolean(data.busy))
    return
  }

  const zone = element("div", "zone")
  state.zone = zone
  zone.classList.toggle("busy", Boolean(data.busy))
  const list = element("ul", "list")
  list.setAttribute("aria-live", "polite")
  const choose = (label, folder) => {
    const input = document.createElement("input")
    input.type = "file"
    input.multiple = true
    input.hidden = true
    if (folder) input.webkitdirectory = true
    else input.accept = `video/*,${data.endings}`
    input.className = folder ? "folder" : "files"
    input.onchange = () => {
      start([...input.files].map(file => [file.webkitRelativePath || file.name, file]))
      input.value = ""
    }
    const button = element("button", "choose", label)
    button.type = "button"
    button.onclick = () => input.click()
    return [button, input]
  }
  const line = element("div", "line")
  line.append(element("span", "say", "Drop videos or folders here, or"), ...choose("Choose videos"), ...choose("Choose a folder", true))
  const stop = element("button", "choose stop", "Stop")
  stop.type = "button"
  stop.hidden = true
  stop.onclick = () => {
    state.stopped = true
    state.request?.abort()
  }
  line.append(stop)
  zone.append(line, element("div", "most", `At most ${readable(data.most)} each. They are kept on the computer that runs the app.`))
  root.replaceChildren(zone, list)

  const row = name => {
    const item = element("li", "item")
    const bar = document.createElement("progress")
    bar.max = 1
    bar.value = 0
    bar.setAttribute("aria-label", name)
    const said = element("span", "said", "waiting")
    item.append(element("span", "name", name), bar, said)
    list.append(item)
    return { bar, said, item }
  }

  async function start(files) {
    if (state.running || state.data.busy) return
    const videos = files.filter(([name, file]) => !name.split("/").some(part => part.startsWith(".")) && isWanted(name, file))
    list.replaceChildren()
    if (!videos.length) {
      list.append(element("li", "item bad", "There is no video among these files."))
      return
    }
    state.running = true
    state.stopped = false
    stop.hidden = false
    zone.classList.add("busy")
    const leave = event => event.preventDefault()
    addEventListener("beforeunload", leave)
    const rows = videos.map(([name]) => row(name))
    let sent = 0
    for (const [at, [name, file]] of videos.entries()) {
      const { bar, said, item } = rows[at]
      item.scrollIntoView({ block: "nearest" })
      const why = state.stopped
        ? "Stopped."
        : file.size > state.data.most
          ? `Larger than ${readable(state.data.most)}; copy it to the computer that runs the app, and give its path.`
          : await send(state.data.ticket, name, file, loaded => {
              bar.value = file.size ? loaded / file.size : 0
              said.textContent = `${readable(loaded)} of ${readable(file.size)}`
            }, state)
      said.textContent = why || `${readable(file.size)} received`
      item.classList.toggle("bad", Boolean(why))
      if (!why) {
        bar.value = 1
        sent += 1
      }
    }
    removeEventListener("beforeunload", leave)
    stop.hidden = true
    state.running = false
    zone.classList.toggle("busy", Boolean(state.data.busy))
    if (sent) state.done(sent)
  }

  zone.ondragover = event => {
    event.preventDefault()
    zone.classList.add("over")
  }
  zone.ondragleave = () => zone.classList.remove("over")
  zone.ondrop = async event => {
    event.preventDefault()
    zone.classList.remove("over")
    start(await dropped(event.dataTransfer))
  }
}
