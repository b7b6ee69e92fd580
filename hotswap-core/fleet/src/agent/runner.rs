//! The agent's work: it follows the roll-out, and says what has become of it.
//!
//! Four loops on one thread. One reads the roll-out, one writes the status, one the log; each waits for the server as
//! long as it takes. The fourth decides and waits for nobody, so that a server that is away stops nothing.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    path::PathBuf,
    pin::Pin,
    rc::Rc,
    time::{Duration, SystemTime},
};

use hotswap_core::Sha256;
use tokio::{
    select,
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};

use super::{
    AgentSettings,
    folder::{Folder, Tried},
    link::{Log, RETRY_PAUSE, follow, report},
    target::{StopSignal, Target, TargetEvent},
};
use crate::{
    error::{FleetError, FleetErrorKind, Result},
    manifest::Manifest,
    rollout::{Assignment, Release, RolloutRecord, short},
    status::{AnswerOutcome, HostAnswer, Nack, Status},
    store::{LogEntry, Store},
};

/// How long what has failed here waits at most until it is tried again.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long a build that is here waits for a newer signature.
const SIGNATURE_TIMEOUT: Duration = Duration::from_secs(5);

/// An agent and what it drives.
pub(crate) struct Runner<T> {
    settings: AgentSettings,
    target: Rc<T>,
    store: Store,
    folder: Folder,
    instance: u64,
    answer: Option<HostAnswer>,
    /// What the roll-out says that this host should do, and the build that it is about.
    assignment: Option<(Assignment, Release)>,
    /// What was fetched and found to be in order.
    fetched: Option<(String, Manifest)>,
    work: Option<Work>,
    /// When what failed for a reason that may pass is tried again.
    retry_at: Option<Instant>,
    /// What has failed so, for as long as it has not gone well.
    problem: Option<Problem>,
    /// When what is being tried has run for long enough.
    good_at: Option<Instant>,
    /// When what the process has begun with has run for long enough.
    floor_at: Option<Instant>,
    /// The floors of the builds that this process has run, by their SHA-256.
    floors: BTreeMap<String, u64>,
    log: Rc<Log>,
}

struct Work {
    release: Release,
    attempt: u64,
    /// Whether it may be dropped at any time.
    is_fetch: bool,
    /// Whether it was not what the roll-out is about when the work began.
    is_previous: bool,
    stop: StopSignal,
    /// When the build that it is to replace has run for long enough, if it has not yet.
    good_at: Option<Instant>,
    done: WorkFuture,
}

/// Why something was tried in vain, and the pause before it is tried again.
struct Problem {
    kind: FleetErrorKind,
    text: String,
    pause: Duration,
}

/// Ends when the work is done, whatever has come of it.
type WorkFuture = Pin<Box<dyn Future<Output = Done>>>;

enum Done {
    /// What the server has, or why it did not come; and what its signature says, or why it is none.
    Fetched(Result<Result<Manifest, String>>),
    Checked(Result<(), Nack>),
    Ran(Result<(), Nack>),
}

impl<T: Target + 'static> Runner<T> {
    /// `begun` has the SHA-256 and the floor of the build that is live already, if it has a floor.
    pub(crate) fn new(
        settings: AgentSettings,
        target: T,
        store: Store,
        folder: Folder,
        begun: Option<(String, u64)>,
    ) -> Self {
        Self {
            floor_at: begun.as_ref().and_then(|_| after(settings.good_after)),
            floors: begun.into_iter().collect(),
            settings,
            target: Rc::new(target),
            store,
            folder,
            instance: fastrand::u64(..),
            answer: None,
            assignment: None,
            fetched: None,
            work: None,
            retry_at: None,
            problem: None,
            good_at: None,
            log: Rc::default(),
        }
    }

    /// Works until it is told to stop, and says that it has left then.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let (rollouts, mut rollout) = watch::channel(None);
        let (statuses, status) = watch::channel(self.status());
        let (store, log) = (self.store.clone(), Rc::clone(&self.log));
        let plugin = self.settings.plugin.clone();
        let poll = self.settings.heartbeat;
        {
            let loops = async {
                tokio::join!(
                    follow(&store, &plugin, poll, &rollouts),
                    report(&store, poll, status),
                    log.send(&store),
                );
            };
            select! {
                () = loops => {}
                () = self.decide(&mut rollout, &statuses) => {}
                _ = stop.wait_for(|it| *it) => {}
            }
        }
        self.leave().await;
    }

    /// Never ends.
    async fn decide(
        &mut self,
        rollout: &mut watch::Receiver<Option<RolloutRecord>>,
        statuses: &watch::Sender<Status>,
    ) {
        let mut heartbeat = tokio::time::interval(self.settings.heartbeat);
        let mut has_events = true;
        loop {
            self.begin();
            statuses.send_replace(self.status());
            let target = Rc::clone(&self.target);
            let (retry_at, good_at, floor_at) = (self.retry_at, self.good_at, self.floor_at);
            select! {
                changed = rollout.changed() => {
                    if changed.is_ok() {
                        let rollout = rollout.borrow_and_update().clone();
                        self.assign(rollout.as_ref());
                    }
                }
                done = finished(&mut self.work) => self.finish(done),
                event = target.event(), if has_events => match event {
                    Some(event) => self.heard(event),
                    None => has_events = false,
                },
                () = at(retry_at) => self.retry_at = None,
                () = at(good_at) => self.is_good(),
                () = at(floor_at) => self.raise_floor(),
                _ = heartbeat.tick() => {}
            }
        }
    }

    fn assign(&mut self, rollout: Option<&RolloutRecord>) {
        let Some(rollout) = rollout else { return };
        let assignment = rollout.assignment(&self.settings.host);
        let new = Some((assignment, rollout.target.clone()));
        if new == self.assignment {
            return;
        }
        let attempt = |it: &Option<(Assignment, Release)>| it.as_ref().map(|it| it.0.attempt);
        if attempt(&new) != attempt(&self.assignment) {
            // It may have been signed again, and what may run may have changed.
            self.fetched = None;
            self.target.reset_figures(&rollout.target.sha256);
        }
        let is_other = !self.is_target(&rollout.target);
        self.assignment = new;
        if is_other {
            // What was refused need not be kept any more.
            self.remove_old_builds(rollout.previous.as_ref().map(|it| &it.sha256));
        }
        self.retry_at = None;
        self.problem = None;
        let Some(work) = &self.work else { return };
        let wanted = self.wanted();
        if wanted.is_none_or(|it| it.1.sha256 != work.release.sha256) {
            work.stop.stop();
            self.work.take_if(|it| it.is_fetch);
        }
    }

    /// The build to bring here and the attempt, if it is not here yet; whether it is only checked.
    fn wanted(&self) -> Option<(u64, &Release, bool)> {
        let (assignment, _) = self.assignment.as_ref()?;
        let attempt = assignment.attempt;
        let live = self.target.live().and_then(|it| it.sha256);
        if let Some(run) = &assignment.run
            && live.as_deref() != Some(&run.sha256)
            && self.folder.refusal(attempt, &run.sha256).is_none()
        {
            return Some((attempt, run, false));
        }
        let check = assignment.check.as_ref()?;
        let is_answered = self.answer.as_ref().is_some_and(|it| {
            (it.attempt, &it.sha256) == (attempt, &check.sha256)
                && !matches!(it.outcome, AnswerOutcome::Working { .. })
        });
        let is_refused = self.folder.refusal(attempt, &check.sha256).is_some();
        (!is_answered && !is_refused).then_some((attempt, check, true))
    }

    /// Begins what is to be done, if nothing is under way.
    fn begin(&mut self) {
        self.answer_what_is_known();
        if self.work.is_some() || self.retry_at.is_some() {
            return;
        }
        let Some((attempt, release, only_checks)) = self.wanted() else {
            return;
        };
        let release = release.clone();
        if release.sha256.parse::<Sha256>().is_err() {
            let reason = "the roll-out has no SHA-256";
            return self.refuse(attempt, &release, Nack::new("fetch", reason));
        }
        let path = self.folder.builds().path_of(&release.sha256);
        let stop = StopSignal::default();
        let fetched = self.fetched.as_ref();
        let fetched = fetched.filter(|(sha256, _)| *sha256 == release.sha256);
        let is_fetched = fetched.is_some();
        let floor = fetched.and_then(|(_, manifest)| manifest.floor);
        let mut good_at = None;
        let is_way_back = self
            .assignment
            .as_ref()
            .is_some_and(|(it, _)| it.is_way_back);
        let (on, done) = if !is_fetched {
            ("fetching", self.fetch(&release))
        } else if only_checks {
            ("checking", self.check(path))
        } else {
            let tried = Tried {
                attempt,
                sha256: release.sha256.clone(),
            };
            // What has run here for a while before need not show that it does.
            let is_known = self.folder.state().good.as_ref() == Some(&release.sha256);
            let kept = self
                .folder
                .change(|it| it.trying = (!is_known).then_some(tried));
            if let Err(error) = kept {
                return self.wait(&release, attempt, &error);
            }
            self.problem = None;
            good_at = self.good_at.take();
            self.floors
                .extend(floor.map(|it| (release.sha256.clone(), it)));
            ("starting", self.start(path, &release, &stop, is_way_back))
        };
        let on = match &self.problem {
            Some(problem) => problem.to_string(),
            None => on.to_owned(),
        };
        self.set_answer(attempt, &release, AnswerOutcome::Working { on });
        let is_previous = !self.is_target(&release);
        self.work = Some(Work {
            release,
            attempt,
            is_fetch: !is_fetched,
            is_previous,
            stop,
            good_at,
            done,
        });
    }

    /// Gets the build from the folder or the server, and keeps it if it is signed.
    fn fetch(&self, release: &Release) -> WorkFuture {
        let (store, sha256) = (self.store.clone(), release.sha256.clone());
        let (bytes_max, answer_timeout) =
            (self.settings.plugin_bytes_max, self.settings.fetch_timeout);
        let (builds, key) = (
            self.folder.builds().clone(),
            self.settings.public_key.clone(),
        );
        let fetched = async move {
            let (here, hash) = (builds.clone(), sha256.clone());
            let here = spawn_blocking(move || here.get(&hash)).await;
            let mut is_kept = false;
            let fetched = match here {
                Ok(Some(mut fetched)) => {
                    // It may have been signed again since, with a later date.
                    match timeout(SIGNATURE_TIMEOUT, store.signature(&sha256)).await {
                        Ok(Ok(Some(signature))) if signature != fetched.signature => {
                            fetched.signature = signature;
                        }
                        _ => is_kept = true,
                    }
                    fetched
                }
                _ => store.fetch(&sha256, bytes_max, answer_timeout).await?,
            };
            let kept = spawn_blocking(move || {
                let manifest = Manifest::verified(&key, &fetched.bytes, &fetched.signature);
                if manifest.is_ok() && !is_kept {
                    builds.put(&sha256, &fetched)?;
                }
                Ok(manifest)
            });
            kept.await
                .map_err(|error| FleetError::new(FleetErrorKind::File, error.to_string()))?
        };
        Box::pin(async move { Done::Fetched(fetched.await) })
    }

    fn check(&self, path: PathBuf) -> WorkFuture {
        let target = Rc::clone(&self.target);
        Box::pin(async move { Done::Checked(target.check(&path).await) })
    }

    fn start(
        &self,
        path: PathBuf,
        release: &Release,
        stop: &StopSignal,
        is_way_back: bool,
    ) -> WorkFuture {
        let (target, stop) = (Rc::clone(&self.target), stop.clone());
        let sha256 = release.sha256.clone();
        Box::pin(async move {
            Done::Ran(if is_way_back {
                target.go_back(&path, &sha256).await
            } else {
                target.run(&path, &sha256, &stop).await
            })
        })
    }

    fn finish(&mut self, done: Done) {
        let Some(work) = self.work.take() else { return };
        let (attempt, release) = (work.attempt, &work.release);
        match done {
            Done::Fetched(Ok(manifest)) => match self.accept(release, manifest) {
                Ok(manifest) => {
                    self.problem = None;
                    self.fetched = Some((release.sha256.clone(), manifest));
                }
                Err(refusal) => self.refuse(attempt, release, refusal),
            },
            Done::Fetched(Err(error)) if error.kind() == FleetErrorKind::Invalid => {
                self.refuse(attempt, release, Nack::from(&error));
            }
            // It may come, as the server may.
            Done::Fetched(Err(error)) => self.wait(release, attempt, &error),
            Done::Checked(Ok(())) => self.set_answer(attempt, release, AnswerOutcome::Checked),
            Done::Ran(Ok(())) => {
                self.set_answer(attempt, release, AnswerOutcome::Running);
                self.good_at = after(self.settings.good_after);
                if work.is_previous {
                    // What a roll-out goes back to has run for a while before.
                    self.is_good();
                }
            }
            Done::Checked(Err(refusal)) => self.refuse(attempt, release, refusal),
            Done::Ran(Err(refusal)) => {
                // What it was to replace goes on.
                self.good_at = work.good_at;
                if work.stop.is_stopped() {
                    self.forget_trying(&release.sha256);
                } else {
                    self.refuse(attempt, release, refusal);
                }
            }
        }
    }

    /// Whether what was fetched may be given to hotswap, which checks the signature and the date once more.
    fn accept(
        &self,
        release: &Release,
        manifest: Result<Manifest, String>,
    ) -> Result<Manifest, Nack> {
        let settings = &self.settings;
        let manifest = manifest.map_err(|reason| Nack::new("manifest", reason))?;
        let differs = |what, expected: &str, found: &str| {
            Nack::differs("manifest", what, expected.to_owned(), found.to_owned())
        };
        if manifest.name != settings.plugin {
            return Err(differs(
                "a build of another plugin",
                &settings.plugin,
                &manifest.name,
            ));
        }
        let floor = self.folder.state().floor;
        if manifest.serial < floor {
            return Err(differs(
                "its serial number is below the floor",
                &format!("at least {floor}"),
                &manifest.serial.to_string(),
            ));
        }
        if let Some(expires) = manifest.expires.filter(|it| *it <= SystemTime::now()) {
            let expires = humantime::format_rfc3339_seconds(expires).to_string();
            return Err(differs("it has expired", "a later date", &expires));
        }
        if let Some(expected) = &settings.interface {
            let found = manifest.interface.as_deref().unwrap_or("none");
            if found != expected {
                return Err(differs(
                    "it was built for another interface",
                    expected,
                    found,
                ));
            }
        }
        if manifest.serial != release.serial {
            // The bytes were signed again since the roll-out began, which changes nothing.
            tracing::info!(target: "hotswap_fleet", serial = manifest.serial, "signed again");
        }
        Ok(manifest)
    }

    /// Says again what was found out before, also by an earlier process.
    fn answer_what_is_known(&mut self) {
        let Some((assignment, target)) = self.assignment.clone() else {
            return;
        };
        let attempt = assignment.attempt;
        if let Some(refusal) = self.folder.refusal(attempt, &target.sha256) {
            let refused = AnswerOutcome::Refused(refusal.clone());
            return self.set_answer(attempt, &target, refused);
        }
        let live = self.target.live().and_then(|it| it.sha256);
        let is_asked = assignment.run.as_ref() == Some(&target) || assignment.check.is_some();
        let runs = self.work.is_none() && live.as_ref() == Some(&target.sha256);
        if is_asked && runs {
            let outcome = if assignment.check.is_some() {
                AnswerOutcome::Checked
            } else {
                AnswerOutcome::Running
            };
            self.set_answer(attempt, &target, outcome);
        }
    }

    fn set_answer(&mut self, attempt: u64, release: &Release, outcome: AnswerOutcome) {
        // Of other builds, such as the previous one, only a refusal is worth saying.
        if !self.is_target(release) && !matches!(outcome, AnswerOutcome::Refused(_)) {
            return;
        }
        let answer = HostAnswer {
            attempt,
            sha256: release.sha256.clone(),
            outcome,
        };
        if self.answer.as_ref() == Some(&answer) {
            return;
        }
        if !matches!(answer.outcome, AnswerOutcome::Working { .. }) {
            let text = format!("{}: {}", short(&answer.sha256), answer.outcome);
            self.say(text, None);
        }
        self.answer = Some(answer);
    }

    /// Whether it is the build that the roll-out is about.
    fn is_target(&self, release: &Release) -> bool {
        self.assignment
            .as_ref()
            .is_some_and(|(_, target)| target.sha256 == release.sha256)
    }

    fn refuse(&mut self, attempt: u64, release: &Release, nack: Nack) {
        let tried = Tried {
            attempt,
            sha256: release.sha256.clone(),
        };
        if let Err(error) = self.folder.refuse(tried, nack.clone()) {
            self.say(error.to_string(), None);
        }
        self.set_answer(attempt, release, AnswerOutcome::Refused(nack));
    }

    /// Tries it again after a while. A server that is away costs nothing. What fails here, such as writing to a full
    /// disk, or what the server does not have, may have cost a whole build: each time, the pause is twice as long.
    fn wait(&mut self, release: &Release, attempt: u64, error: &FleetError) {
        let (kind, before) = (error.kind(), self.problem.take());
        let pause = match &before {
            Some(before) if kind != FleetErrorKind::Server => RETRY_PAUSE_MAX.min(2 * before.pause),
            _ => RETRY_PAUSE,
        };
        let text = error.to_string();
        let is_new = before.is_none_or(|it| it.kind != kind);
        if is_new && kind != FleetErrorKind::Server {
            self.say(format!("{}: {text}", short(&release.sha256)), None);
        }
        let problem = Problem { kind, text, pause };
        let on = problem.to_string();
        self.set_answer(attempt, release, AnswerOutcome::Working { on });
        self.problem = Some(problem);
        self.retry_at = Some(Instant::now() + pause);
    }

    fn heard(&mut self, event: TargetEvent) {
        self.say(event.text, Some(event.event));
        let Some((sha256, why)) = event.went_back else {
            return;
        };
        let run = self
            .assignment
            .as_ref()
            .and_then(|(it, _)| Some((it.attempt, it.run.clone()?)));
        if let Some((attempt, release)) = run.filter(|(_, it)| it.sha256 == sha256) {
            self.refuse(attempt, &release, Nack::new("probation", why));
            // What it has gone back to is what it begins with.
            self.is_good();
        }
    }

    /// What is live has run for a while.
    fn is_good(&mut self) {
        self.good_at = None;
        let Some(live) = self.target.live().and_then(|it| it.sha256) else {
            return;
        };
        let floor = self.floors.get(&live).copied();
        let previous = self.folder.state().good.clone();
        let kept = self.folder.change(|state| {
            state.trying = None;
            state.good = Some(live.clone());
            state.floor = state.floor.max(floor.unwrap_or(0));
        });
        if let Err(error) = kept {
            return self.say(error.to_string(), None);
        }
        // A halt leads back to it.
        self.remove_old_builds(previous.as_ref());
    }

    /// Removes the builds but this one, what this process runs or begins with, and what the roll-out is about, which
    /// may have been fetched already.
    fn remove_old_builds(&self, previous: Option<&String>) {
        let live = self.target.live().and_then(|it| it.sha256);
        let state = self.folder.state();
        let trying = state.trying.as_ref().map(|it| &it.sha256);
        let assigned = self.assignment.as_ref();
        let run = assigned.and_then(|(it, _)| it.run.as_ref());
        let target = assigned.map(|(_, it)| it);
        let wanted = run.into_iter().chain(target);
        let wanted = wanted.chain(self.work.as_ref().map(|it| &it.release));
        let kept = [previous, live.as_ref(), state.good.as_ref(), trying];
        let kept = kept.into_iter().flatten();
        let kept = kept.chain(wanted.map(|it| &it.sha256));
        let kept: Vec<_> = kept.map(String::as_str).collect();
        self.folder.builds().keep_only(&kept);
    }

    /// What the process has begun with has run for a while, if it is still live. It is kept where it was.
    fn raise_floor(&mut self) {
        self.floor_at = None;
        let live = self.target.live().and_then(|it| it.sha256);
        let floor = live.and_then(|it| self.floors.get(&it).copied());
        let kept = self
            .folder
            .change(|it| it.floor = it.floor.max(floor.unwrap_or(0)));
        if let Err(error) = kept {
            self.say(error.to_string(), None);
        }
    }

    fn forget_trying(&mut self, sha256: &str) {
        let forgotten = self
            .folder
            .change(|it| drop(it.trying.take_if(|it| it.sha256 == sha256)));
        if let Err(error) = forgotten {
            self.say(error.to_string(), None);
        }
    }

    fn say(&self, text: String, event: Option<serde_json::Value>) {
        let entry = LogEntry {
            at_ms: 0,
            host: self.settings.host.clone(),
            plugin: self.settings.plugin.clone(),
            text,
            event,
        };
        self.log.push(entry, self.instance);
    }

    fn status(&self) -> Status {
        Status {
            host: self.settings.host.clone(),
            plugin: self.settings.plugin.clone(),
            instance: self.instance,
            heartbeat_ms: self.settings.heartbeat.as_millis() as u64,
            live: self.target.live(),
            figures: self.target.figures(),
            mapped: self.target.mapped(),
            answer: self.answer.clone(),
            floor: self.folder.state().floor,
            has_left: false,
            lost_events: self.log.lost(),
        }
    }

    async fn leave(mut self) {
        // It ends on purpose, and not because of what it runs.
        if let Some(tried) = self.folder.state().trying.clone() {
            self.forget_trying(&tried.sha256);
        }
        let status = Status {
            has_left: true,
            ..self.status()
        };
        // Whoever ends does not wait for a server that is away.
        let _ = timeout(RETRY_PAUSE, self.store.put_status(&status)).await;
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trying again: {}", self.text)
    }
}

async fn finished(work: &mut Option<Work>) -> Done {
    match work {
        Some(work) => work.done.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Never, if that is further away than any time.
fn after(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
