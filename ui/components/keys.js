// Keyboard and small screens. Data: {hit: id of the open frame, or null}. Trigger `close`: Escape was pressed while a frame is open.
// The cursor is in the query box when a page opens; on a phone the open frame is scrolled to, and back to its picture when it closes.
let page = ""
let shown = null
const NARROW = 640

function waitFor(find, act, tries = 60) {
  const found = find()
  if (found) act(found)
  else if (tries) setTimeout(() => waitFor(find, act, tries - 1), 50)
}

function cardOf(id) {
  for (const host of document.querySelectorAll(".st-key-hits *")) {
    const card = host.shadowRoot?.querySelector(`.card[data-id="${CSS.escape(id)}"]`)
    if (card) return card
  }
  return null
}

function isBusy() {
  return document.fullscreenElement || document.querySelector("[data-testid=stPopoverBody], [role=dialog], [role=listbox]")
}

export default function (component) {
  const { data, setTriggerValue } = component
  if (!data) return
  const fine = matchMedia("(hover: hover) and (pointer: fine)").matches
  if (page !== location.pathname) {
    page = location.pathname
    shown = null
    waitFor(
      () => document.querySelector(".st-key-q input"),
      input => {
        const nowhere = document.activeElement === document.body || document.activeElement?.closest("[data-testid=stTopNavLinkContainer], header")
        if (fine && nowhere) input.focus({ preventScroll: true })
      },
    )
  }
  if (data.hit !== shown) {
    const before = shown
    shown = data.hit
    if (shown && innerWidth <= NARROW) {
      waitFor(() => document.querySelector(".st-key-viewer"), pane => pane.scrollIntoView({ block: "start" }))
    }
    if (!shown && before) {
      waitFor(
        () => !document.querySelector(".st-key-viewer") && cardOf(before),
        card => {
          if (fine) card.focus({ preventScroll: true })
          if (innerWidth <= NARROW) card.scrollIntoView({ block: "center" })
        },
      )
    }
  }
  const escape = event => {
    if (event.key === "Escape" && !event.defaultPrevented && data.hit && !isBusy()) setTriggerValue("close", true)
  }
  document.addEventListener("keydown", escape)
  return () => document.removeEventListener("keydown", escape)
}
