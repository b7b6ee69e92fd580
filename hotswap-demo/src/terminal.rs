//! A person at a terminal: a line that is edited with history, arrow keys and Tab, and what is shown above it.
//!
//! While a line is edited, the terminal is in raw mode and only the editor writes to it. Between two lines, and after
//! [`close`], [`Printer::print`] writes to it directly.
//!
//! The editor (rustyline 19) can be given lines by an [`ExternalPrinter`]. In raw mode, they wait until no key is left
//! to be read. Otherwise they are written at once, and so before those that wait: a second line that was typed ahead,
//! or pasted, would be answered before the first. So [`Screen`] has the only queue. Its lines stand in front of the
//! prompt whenever the editor draws it, and the external printer only has the editor draw it again.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    mem,
    panic::{self, AssertUnwindSafe},
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use hotswap_core::text::one_line;
use nix::sys::signal::{SigSet, Signal};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    stdio,
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr},
};
use rustyline::{
    ColorMode, CompletionType, Config, Context, Editor, ExternalPrinter, Helper,
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

static SCREEN: Mutex<Screen> = Mutex::new(Screen {
    pending: String::new(),
    editor: EditorState::Idle,
});

/// Notified when the editor has drawn or ended its line.
static SCREEN_CHANGED: Condvar = Condvar::new();

/// How many bytes may be pending before whoever prints waits for the editor, as for a terminal that is stopped.
const PENDING_BYTES_MAX: usize = 1 << 20;

/// How long the editor may take to go into raw mode. It waits for nobody.
const START_TIMEOUT: Duration = Duration::from_secs(1);

struct Screen {
    /// Whole lines that are not shown yet.
    pending: String,
    editor: EditorState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EditorState {
    /// No line is edited.
    Idle,
    /// The editor goes into raw mode, and draws its line next.
    Starting,
    /// A line is edited. Pending lines are shown when it is drawn again.
    Editing,
    /// The terminal was given back. No line is edited any more.
    Closed,
}

/// Takes the line away on which the cursor is, and what is below it.
const LINE_OFF: &str = "\r\x1b[J";

/// Ends what the editor may have turned on: marks around pasted text, and output that waits for an end mark.
const EDITOR_OFF: &str = "\x1b[?2004l\x1b[?2026l";

impl Screen {
    fn lock() -> MutexGuard<'static, Self> {
        // Nothing panics under the lock.
        SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&mut self) {
        write(&mem::take(&mut self.pending));
    }

    /// Returns whether a line may be edited.
    fn start_line(&mut self) -> bool {
        let is_open = self.editor != EditorState::Closed;
        if is_open {
            self.editor = EditorState::Starting;
        }
        is_open
    }

    fn end_line(&mut self) {
        if self.editor != EditorState::Closed {
            self.editor = EditorState::Idle;
        }
        self.flush();
        SCREEN_CHANGED.notify_all();
    }
}

/// A terminal that has gone shows nothing. What ends the demo then is the end of its lines.
fn write(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Shows lines above the one that is edited, in the order in which they are given.
pub(crate) struct Printer {
    /// Has the editor draw its line again.
    redraw: Sender<()>,
}

impl Printer {
    /// Whole lines. Waits for the terminal, but for the editor only if it has drawn nothing for long.
    pub(crate) fn print(&self, lines: &str) {
        let is_full = |screen: &mut Screen| {
            screen.editor == EditorState::Editing && screen.pending.len() > PENDING_BYTES_MAX
        };
        let mut screen = SCREEN_CHANGED
            .wait_while(Screen::lock(), is_full)
            .unwrap_or_else(PoisonError::into_inner);
        screen.pending.push_str(lines);
        if screen.editor == EditorState::Editing {
            // Full: it will be drawn again in any case.
            let _ = self.redraw.try_send(());
        } else {
            screen.flush();
        }
    }
}

/// The message with which the editor only draws its line again. A message ends with a new line; the cursor moves up
/// before, so that it stays where it was. (In the uppermost row of the screen it cannot, and an empty line remains.)
const REDRAW: &str = "\x1b[A\n";

/// Has the editor draw its line again whenever this receives. That can take as long as a list or a search is open, so
/// nobody else waits for it.
fn spawn_redraw(mut printer: impl ExternalPrinter + Send + 'static) -> io::Result<Sender<()>> {
    let (redraw, asked) = bounded(1);
    let redrawing = thread::Builder::new().name("redraw".to_owned());
    redrawing.spawn(move || {
        for () in asked {
            // An error: the editor or the terminal has gone.
            if printer.print(REDRAW.to_owned()).is_err() {
                return;
            }
        }
    })?;
    Ok(redraw)
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
        // Without colours (`NO_COLOR`), the editor would not ask `Highlighter` for the prompt.
        .color_mode(ColorMode::Forced)
        .build();
    let mut editor = Editor::with_history(config, MemHistory::new()).ok()?;
    editor.set_helper(Some(Completions(FilenameCompleter::new())));
    // None for a terminal like `dumb`.
    let printer = editor.create_external_printer().ok()?;
    let redraw = spawn_redraw(printer).ok()?;
    MODES.get_or_init(|| modes);
    // Without a bound: a line is shown only once the next one is read, so reading waits for nobody. What waits here was
    // typed.
    let (requests, received) = unbounded();
    let reader = thread::Builder::new().name("terminal".to_owned());
    let reading = reader.spawn(move || {
        unblock_suspension();
        while Screen::lock().start_line() {
            // Unwind-safe: what belongs to one line is dropped with it, and the history is complete without it.
            let line = panic::catch_unwind(AssertUnwindSafe(|| editor.readline(PROMPT)));
            Screen::lock().end_line();
            let problem = match line {
                Ok(Ok(text)) => {
                    // Several, if they were pasted.
                    for line in text.split(['\n', '\r']) {
                        let request = lines::parse(line.as_bytes());
                        let is_last = request == Request::Quit;
                        if requests.send(request).is_err() || is_last {
                            return;
                        }
                    }
                    continue;
                }
                Ok(Err(ReadlineError::Interrupted)) => {
                    // What the key would do if no line was edited.
                    let _ = low_level::raise(SIGINT);
                    return;
                }
                Ok(Err(ReadlineError::Io(error))) if error.kind() == io::ErrorKind::InvalidData => {
                    "this line is no text: a byte of it is not UTF-8; it was dropped, with what was \
                     pasted after it"
                }
                // The end, or a terminal that has gone.
                Ok(Err(_)) => return,
                Err(_) => "the line editor has failed, and this line was dropped",
            };
            if requests.send(Request::Unknown(problem.to_owned())).is_err() {
                return;
            }
        }
    });
    reading.ok()?;
    Some((received, Printer { redraw }))
}

/// Takes the prompt away, shows what is pending, and gives the terminal back as it was.
pub(crate) fn close() {
    let is_starting = |screen: &mut Screen| screen.editor == EditorState::Starting;
    // Otherwise the editor would go into raw mode after this.
    let (mut screen, _) = SCREEN_CHANGED
        .wait_timeout_while(Screen::lock(), START_TIMEOUT, is_starting)
        .unwrap_or_else(PoisonError::into_inner);
    screen.editor = EditorState::Closed;
    if restore_modes() {
        write(&format!("{LINE_OFF}{EDITOR_OFF}"));
    }
    screen.flush();
}

/// Gives the terminal back without waiting for anybody, also if its output is stopped. What is pending is lost.
pub(crate) fn close_at_once() {
    if !restore_modes() {
        return;
    }
    let out = stdio::stdout();
    let mut out_fd = [PollFd::new(&out, PollFlags::OUT)];
    let at_once = Timespec::default();
    if poll(&mut out_fd, Some(&at_once)).is_ok_and(|ready| ready == 1) {
        let _ = rustix::io::write(out, format!("{LINE_OFF}{EDITOR_OFF}").as_bytes());
    }
}

/// Ends raw mode. Returns whether the terminal was in it.
fn restore_modes() -> bool {
    let Some(modes) = MODES.get() else {
        return false;
    };
    let now = tcgetattr(io::stdin());
    let is_raw = now.is_ok_and(|it| !it.local_modes.contains(LocalModes::ICANON));
    if is_raw {
        // An error: the terminal has gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, modes);
    }
    is_raw
}

/// What Tab completes: commands and paths; hidden names only if nothing else matches.
struct Completions(FilenameCompleter);

impl Completer for Completions {
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
        let (start, mut found) = self.0.complete(line, position, context)?;
        // Control characters in a name would do to the terminal what they say.
        found.retain(|it| one_line(&it.display) == it.display);
        let is_hidden = |it: &Pair| it.display.starts_with('.');
        // Hidden names begin with `.`, and so would be listed first.
        let (hidden, shown): (Vec<_>, Vec<_>) = found.into_iter().partition(is_hidden);
        Ok((start, if shown.is_empty() { hidden } else { shown }))
    }
}

impl Helper for Completions {}
impl Highlighter for Completions {
    /// The editor calls this whenever it draws its line.
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        let mut screen = Screen::lock();
        if screen.editor == EditorState::Closed {
            drop(screen);
            write(EDITOR_OFF);
            // There is no other way out of the editor. As it goes, it gives back the terminal.
            panic::resume_unwind(Box::new("closed"));
        }
        screen.editor = EditorState::Editing;
        SCREEN_CHANGED.notify_all();
        let lines = mem::take(&mut screen.pending);
        if lines.is_empty() {
            Cow::Borrowed(prompt)
        } else {
            Cow::Owned(lines + prompt)
        }
    }
}
impl Validator for Completions {}
impl Hinter for Completions {
    type Hint = String;
}
