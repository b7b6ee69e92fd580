//! A person at a terminal: a line that is edited with history, arrow keys and Tab, and what is shown above it.
//!
//! While a line is edited, the terminal is in a mode of the editor's. So the editor shows whatever is said meanwhile,
//! and the terminal is [`restore`]d at the end. Between two lines, whoever says something writes it.
//!
//! The editor (rustyline 19) can be given lines by an [`ExternalPrinter`]. While it is in its mode, they wait until no
//! key is left to be read. While it is not, they are written at once, and so before those that wait: a second line that
//! was typed ahead, or pasted, would be answered before the first. So there is one queue of our own, [`ABOVE`]. Its
//! lines stand in front of the prompt whenever the editor draws it, and the external printer only asks it to.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    mem,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use nix::sys::signal::{SigSet, Signal};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::{
    CompletionType, Config, Context, Editor, ExternalPrinter, Helper,
    completion::{Completer, FilenameCompleter, Pair},
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::MemHistory,
    validate::Validator,
};
use signal_hook::{consts::SIGINT, low_level};

use crate::lines::{self, COMMANDS, Request};

/// What stands before the line.
pub(crate) const PROMPT: &str = "Next plugin: ";

/// The modes of the terminal before lines were edited on it.
static MODES: OnceLock<Termios> = OnceLock::new();

/// What is to be shown above the line.
static ABOVE: Mutex<Above> = Mutex::new(Above {
    lines: String::new(),
    line: Line::None,
});

struct Above {
    /// Whole lines, in their order.
    lines: String,
    line: Line,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Nothing is edited. Whoever says something writes it.
    None,
    /// The editor draws it, and above it what is said.
    Edited,
    /// The terminal was given back. Nothing is drawn any more.
    Abandoned,
}

impl Above {
    fn lock() -> MutexGuard<'static, Self> {
        // What a panic has left may be shown.
        ABOVE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No line is edited any more: what the editor has not shown is written.
    fn leave(&mut self, line: Line) {
        self.line = line;
        self.write();
    }

    fn write(&mut self) {
        let mut out = io::stdout().lock();
        // A terminal that has gone shows nothing. What ends the demo then is the end of its lines.
        let _ = out
            .write_all(self.lines.as_bytes())
            .and_then(|()| out.flush());
        self.lines.clear();
    }
}

/// Shows lines above the one that is edited, in the order in which they are given.
pub(crate) struct Printer {
    /// Has the editor draw its line.
    draw: Sender<()>,
}

impl Printer {
    /// Whole lines. Waits for the terminal, but not for the editor.
    pub(crate) fn print(&self, lines: &str) {
        let mut above = Above::lock();
        above.lines.push_str(lines);
        if above.line == Line::Edited {
            // Full: it will be asked in any case.
            let _ = self.draw.try_send(());
        } else {
            above.write();
        }
    }
}

/// What the editor shows when it is asked to draw its line. It ends whatever it shows with a new line, and this takes
/// that back. (In the uppermost row of the screen, which has none above it, an empty line remains.)
const NOTHING: &str = "\x1b[A\n";

/// Asks the editor to draw its line whenever this receives. The editor may be busy with keys for as long as a list or a
/// search is open, so nobody else waits for it.
fn ask_for_drawing(mut printer: impl ExternalPrinter + Send + 'static) -> io::Result<Sender<()>> {
    let (draw, asked) = bounded(1);
    let asking = thread::Builder::new().name("drawing".to_owned());
    asking.spawn(move || {
        for () in asked {
            // An error: nothing is edited any more.
            if printer.print(NOTHING.to_owned()).is_err() {
                return;
            }
        }
    })?;
    Ok(draw)
}

/// Blocks SIGTSTP on the calling thread, and on those that it starts.
///
/// At Ctrl-Z the editor leaves its mode, sends that signal to the process, and takes its mode again (rustyline 19). If
/// another thread took the signal, that could be before the process is stopped, and the shell would take the mode away
/// for good. So only the thread that edits takes it.
pub(crate) fn block_suspension() {
    // It fails for no valid signal.
    let _ = suspension().thread_block();
}

/// Lets the calling thread be stopped by SIGTSTP again.
pub(crate) fn unblock_suspension() {
    let _ = suspension().thread_unblock();
}

fn suspension() -> SigSet {
    SigSet::from_iter([Signal::SIGTSTP])
}

/// Reads lines on a thread that is never joined: it may wait for ever. `None`: this is no terminal on which lines can
/// be edited and everything is shown.
pub(crate) fn read_lines() -> Option<(Receiver<Request>, Printer)> {
    let is_terminal =
        io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal();
    let modes = is_terminal.then(|| tcgetattr(io::stdin()).ok())??;
    let config = Config::builder()
        .auto_add_history(true)
        .completion_type(CompletionType::List)
        .build();
    let mut editor = Editor::with_history(config, MemHistory::new()).ok()?;
    editor.set_helper(Some(Words(FilenameCompleter::new())));
    // None for a terminal like `dumb`.
    let printer = editor.create_external_printer().ok()?;
    let draw = ask_for_drawing(printer).ok()?;
    // Without a bound: a line is shown only once the next one is read, so reading waits for nobody. What waits here was
    // typed.
    let (requests, received) = unbounded();
    let reader = thread::Builder::new().name("terminal".to_owned());
    let reading = reader.spawn(move || {
        unblock_suspension();
        loop {
            let line = editor.readline(PROMPT);
            Above::lock().leave(Line::None);
            let text = match line {
                Ok(text) => text,
                Err(ReadlineError::Interrupted) => {
                    // What the key would do if no line was edited.
                    let _ = low_level::raise(SIGINT);
                    return;
                }
                Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    let problem = "this line is no text: a byte of it is not UTF-8".to_owned();
                    if requests.send(Request::Unknown(problem)).is_err() {
                        return;
                    }
                    continue;
                }
                // The end, or a terminal that has gone.
                Err(_) => return,
            };
            // Several, if they were pasted.
            for line in text.split(['\n', '\r']) {
                let request = lines::parse(line.as_bytes());
                let is_last = request == Request::Quit;
                if requests.send(request).is_err() || is_last {
                    return;
                }
            }
        }
    });
    reading.ok()?;
    MODES.get_or_init(|| modes);
    Some((received, Printer { draw }))
}

/// Takes the prompt away, and gives the terminal back as it was, should a line be edited at this moment.
pub(crate) fn restore() {
    let Some(modes) = MODES.get() else {
        return;
    };
    let mut above = Above::lock();
    let now = tcgetattr(io::stdin());
    if now.is_ok_and(|it| !it.local_modes.contains(LocalModes::ICANON)) {
        // Also without the marks around what is pasted, which the editor has asked for.
        let _ = io::stdout().write_all(b"\r\x1b[J\x1b[?2004l");
        let _ = io::stdout().flush();
        // An error: the terminal has gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, modes);
    }
    above.leave(Line::Abandoned);
}

/// What Tab completes: commands and paths. Of what is hidden, nothing unless nothing else is meant.
struct Words(FilenameCompleter);

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        if line.starts_with(':') {
            let names = COMMANDS.iter().map(|it| it.name);
            let names = names.filter(|name| name.starts_with(&line[..position]));
            let pair = |name: &str| Pair {
                display: name.to_owned(),
                replacement: name.to_owned(),
            };
            return Ok((0, names.map(pair).collect()));
        }
        let (start, found) = self.0.complete(line, position, context)?;
        let is_hidden = |it: &Pair| it.display.starts_with('.');
        // Hidden names begin with `.`, and so would be listed first.
        let (hidden, shown): (Vec<_>, Vec<_>) = found.into_iter().partition(is_hidden);
        Ok((start, if shown.is_empty() { hidden } else { shown }))
    }
}

impl Helper for Words {}
impl Highlighter for Words {
    /// Whenever the line is drawn: what waits to be shown, and the prompt.
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        let mut above = Above::lock();
        while above.line == Line::Abandoned {
            drop(above);
            thread::park();
            above = Above::lock();
        }
        above.line = Line::Edited;
        let lines = mem::take(&mut above.lines);
        if lines.is_empty() {
            Cow::Borrowed(prompt)
        } else {
            Cow::Owned(lines + prompt)
        }
    }
}
impl Validator for Words {}
impl Hinter for Words {
    type Hint = String;
}
