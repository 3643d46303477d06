// What the pages do better with a script; without one they all work.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  document.documentElement.classList.add("scripted");

  // Typing a name: suggestions from the index.
  const name = byId("name");
  const names = byId("names");
  if (name && names) {
    let waiting = 0;
    let asked = "";
    const suggest = async () => {
      const typed = name.value.trim();
      if (typed.length < 2 || typed === asked) return;
      asked = typed;
      try {
        const answer = await fetch(`/v1/artists?n=8&q=${encodeURIComponent(typed)}`);
        if (!answer.ok) return;
        const { artists } = await answer.json();
        if (name.value.trim() !== typed) return;
        names.replaceChildren(...artists.map((each) => {
          const option = document.createElement("option");
          option.value = each.name;
          option.label = `${each.name}, ${each.works} ${each.works === 1 ? "work" : "works"}`;
          return option;
        }));
      } catch { /* Suggestions are no answer; the form works without them. */ }
    };
    name.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(suggest, 150);
    });
  }

  // Pictures: dropped, pasted or chosen bit by bit, shown, taken out again.
  const form = byId("ask");
  const input = byId("pictures");
  const say = (text) => { byId("status").textContent = text; };
  if (form && input) {
    const area = byId("drop");
    const list = byId("chosen");
    const most = Number(form.dataset.pictures);
    const mostBytes = Number(form.dataset.bytes);
    const mostTogether = Number(form.dataset.body);
    let files = [];

    const hand = () => {
      const kept = new DataTransfer();
      for (const file of files) kept.items.add(file);
      input.files = kept.files;
    };
    const draw = async (file, canvas) => {
      try {
        const image = await createImageBitmap(file);
        const scale = 96 / Math.max(image.width, image.height);
        canvas.width = Math.max(1, Math.round(image.width * scale));
        canvas.height = Math.max(1, Math.round(image.height * scale));
        canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
        image.close();
      } catch { /* The browser cannot show it; the server may read it all the same. */ }
    };
    const show = () => {
      list.replaceChildren(...files.map((file, place) => {
        const row = document.createElement("li");
        const canvas = document.createElement("canvas");
        const text = document.createElement("span");
        const out = document.createElement("button");
        canvas.setAttribute("aria-hidden", "true");
        text.textContent = file.name;
        out.type = "button";
        out.textContent = "Remove";
        out.setAttribute("aria-label", `Remove ${file.name}`);
        out.addEventListener("click", () => {
          files.splice(place, 1);
          hand();
          show();
          say(`${file.name} taken out.`);
          (list.querySelectorAll("button")[Math.min(place, files.length - 1)] ?? input).focus();
        });
        row.append(canvas, text, out);
        draw(file, canvas);
        return row;
      }));
    };
    const add = (more) => {
      const told = [];
      for (const file of more) {
        const together = files.reduce((sum, each) => sum + each.size, file.size);
        const again = files.some((each) => each.name === file.name && each.size === file.size
          && each.lastModified === file.lastModified);
        if (again) continue;
        if (files.length >= most) told.push(`${file.name} was left out: ${most} pictures at most.`);
        else if (file.size > mostBytes) told.push(`${file.name} was left out: it is too large.`);
        else if (together > mostTogether) told.push(`${file.name} was left out: together they are too large.`);
        else files.push(file);
      }
      hand();
      show();
      say([`${files.length} ${files.length === 1 ? "picture" : "pictures"} chosen.`, ...told].join(" "));
    };

    // A browser that went back keeps what was chosen.
    if (input.files.length) add([...input.files]);
    input.addEventListener("change", () => add([...input.files]));
    let over = 0;
    const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    addEventListener("dragenter", (event) => {
      if (holdsFiles(event)) { over += 1; area.classList.add("over"); }
    });
    addEventListener("dragleave", () => {
      over = Math.max(0, over - 1);
      if (!over) area.classList.remove("over");
    });
    addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
    addEventListener("drop", (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      over = 0;
      area.classList.remove("over");
      add([...event.dataTransfer.files]);
    });
    addEventListener("paste", (event) => {
      if (event.clipboardData?.files.length) add([...event.clipboardData.files]);
    });

    // Sending, with progress; the answer is a page.
    const bar = byId("progress");
    const button = form.querySelector("button[type=submit]");
    const rest = () => { button.disabled = false; bar.hidden = true; };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const typed = ["name", "source_contains"].some((field) => form.elements[field].value.trim());
      if (!typed && !files.length) {
        say("Type a name, or add a picture.");
        name.focus();
        return;
      }
      const sending = new XMLHttpRequest();
      sending.open("POST", form.action);
      sending.setRequestHeader("Accept", "text/html");
      sending.upload.addEventListener("progress", (step) => {
        if (step.lengthComputable && step.loaded < step.total) bar.value = step.loaded / step.total;
        else bar.removeAttribute("value");
      });
      sending.upload.addEventListener("load", () => {
        bar.removeAttribute("value");
        if (files.length) say(`Comparing ${files.length === 1 ? "the picture" : `${files.length} pictures`} with the index …`);
      });
      sending.addEventListener("load", () => {
        if (sending.status === 200) {
          location.assign(sending.responseURL);
          return;
        }
        const answer = new DOMParser().parseFromString(sending.responseText, "text/html");
        say(answer.getElementById("problem")?.textContent ?? `The server refused it (${sending.status}).`);
        rest();
      });
      sending.addEventListener("error", () => {
        say("The server cannot be reached. Is it still running?");
        rest();
      });
      say(files.length ? "Sending …" : "Looking …");
      button.disabled = true;
      bar.hidden = false;
      bar.removeAttribute("value");
      sending.send(new FormData(form));
    });
    addEventListener("pageshow", (event) => { if (event.persisted) { rest(); say(""); } });
  }

  // On paper nothing can be unfolded.
  addEventListener("beforeprint", () => {
    for (const facts of document.querySelectorAll(".facts")) facts.open = true;
  });

  // Two pictures laid over each other.
  for (const part of document.querySelectorAll(".lay")) {
    const stage = part.querySelector(".stage");
    const base = stage.querySelector(":scope > img");
    const top = stage.querySelector(".over img");
    const split = part.querySelector(".split");
    const flicker = part.querySelector(".flicker");
    const [a, b, c, d, e, f, g, h, i] = part.dataset.matrix.split(" ").map(Number);

    stage.style.setProperty("--ratio", base.getAttribute("width") / base.getAttribute("height"));

    // The matrix is in shares of the sides; the picture on top is drawn as large as the stage before it is moved.
    const place = () => {
      const width = base.clientWidth;
      const height = base.clientHeight;
      if (!width || !height) return;
      top.style.width = `${width}px`;
      top.style.height = `${height}px`;
      const columns = [
        a, (d * height) / width, 0, g / width,
        (b * width) / height, e, 0, h / height,
        0, 0, 1, 0,
        c * width, f * height, 0, i,
      ];
      top.style.transform = `matrix3d(${columns.join(",")})`;
    };
    const cut = () => stage.style.setProperty("--at", `${split.value}%`);
    split.addEventListener("input", () => { stop(); cut(); });

    let turn = 0;
    const stop = () => {
      clearInterval(turn);
      turn = 0;
      stage.classList.remove("turning", "first");
      flicker.setAttribute("aria-pressed", "false");
    };
    flicker.addEventListener("click", () => {
      if (turn) { stop(); return; }
      stage.classList.add("turning");
      flicker.setAttribute("aria-pressed", "true");
      turn = setInterval(() => stage.classList.toggle("first"), 700);
    });

    const drag = (event) => {
      const box = stage.getBoundingClientRect();
      split.value = String(Math.round((100 * (event.clientX - box.left)) / box.width));
      stop();
      cut();
    };
    stage.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      stage.setPointerCapture(event.pointerId);
      drag(event);
    });
    stage.addEventListener("pointermove", (event) => {
      if (stage.hasPointerCapture(event.pointerId)) drag(event);
    });

    part.hidden = false;
    new ResizeObserver(place).observe(base);
    base.addEventListener("load", place);
    place();
    cut();
  }
})();
