//! Processes and threads of a test. Every wait for one has a bound, and says what it waited for.
use super::{eventually, watchdog};
use parking_lot::Mutex;
use std::io::{BufRead as _, BufReader, Read};
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a process or a thread is waited for: less than a test may take.
const WAIT: Duration = Duration::from_secs(150);

/// A process that is killed with the test that started it.
pub(crate) struct Process {
    child: Child,
    words: String,
    since: Instant,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        watchdog::watch();
        let words = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|e| panic!("{e}: {words}: scripts/install test"));
        Self { child, words, since: Instant::now() }
    }

    /// Its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually(&format!("{} ends", self.words), WAIT.as_secs(), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Whether it runs, for a loop that lasts as long: no longer than such a process may.
    pub(crate) fn runs(&mut self) -> bool {
        assert!(self.since.elapsed() < WAIT, "not within {} s: {} ends", WAIT.as_secs(), self.words);
        self.child.try_wait().unwrap().is_none()
    }

    /// Its end, and all that it said on its pipes.
    pub(crate) fn into_output(mut self) -> Output {
        drop(self.stdin.take());
        let (stdout, stderr) = (Said::of(self.stdout.take()), Said::of(self.stderr.take()));
        // What it said until then is told with whatever fails.
        let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.ended()));
        let status = status.unwrap_or_else(|_| panic!("{} does not end; it said:\n{}{}", self.words, stdout.so_far(), stderr.so_far()));
        Output { status, stdout: stdout.all(), stderr: stderr.all() }
    }
}

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // Killed: it ends at once.
        let _ = self.child.wait();
    }
}

/// What comes out of a pipe, read as it comes: a process that says much is not held up.
struct Said {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Said {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reader = pipe.map(|mut pipe| {
            let bytes = bytes.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 64 << 10];
                while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                    bytes.lock().extend(&buffer[..n]);
                }
            })
        });
        Self { bytes, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock()).into_owned()
    }

    fn all(self) -> Vec<u8> {
        self.reader.into_iter().for_each(|reader| joined("everything was read of a process that ended", reader));
        self.bytes.lock().clone()
    }
}

/// Runs a command to its end, with nothing to read.
pub(crate) fn output(command: &mut Command) -> Output {
    Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).into_output()
}

/// What a thread came to. `what` has happened by then.
pub(crate) fn joined<T>(what: &str, thread: JoinHandle<T>) -> T {
    eventually(what, WAIT.as_secs(), || thread.is_finished());
    thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e))
}

/// The lines of a pipe, each waited for.
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    pub(crate) fn of(pipe: impl Read + Send + 'static) -> Self {
        let (tell, told) = channel();
        std::thread::spawn(move || BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self(told)
    }

    /// The next line; `None` where the pipe ends. `what` is what it is to be.
    pub(crate) fn next(&mut self, what: &str) -> Option<String> {
        let _waiting = watchdog::waiting(what);
        match self.0.recv_timeout(WAIT) {
            Ok(line) => Some(line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("not within {} s: {what}", WAIT.as_secs()),
        }
    }

    /// All lines up to the end.
    pub(crate) fn rest(&mut self, what: &str) -> Vec<String> {
        std::iter::from_fn(|| self.next(what)).collect()
    }
}
