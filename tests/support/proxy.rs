//! A TCP proxy on loopback, for faults that a real server does not make by itself.
use parking_lot::Mutex;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What the proxy does to the bytes that come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Forward,
    /// Let so many more bytes of answers through, then cut that connection, once.
    CutAfter(usize),
    /// Each piece waits so long, in both directions.
    Delay(Duration),
    /// Nothing arrives, in neither direction, and nobody is told. What was swallowed can't come back, so a connection
    /// that went silent stays so.
    Silent,
    /// What one client sends next is kept, the client is cut off, and the server gets it after so long, once.
    Late(Duration),
}

/// How long a client must send nothing before [`Plan::Late`] takes it that all of it is there.
const QUIET: Duration = Duration::from_millis(100);

/// One client's connection and the one to the server that was made for it.
struct Link {
    client: TcpStream,
    server: TcpStream,
    silent: AtomicBool,
}

impl Link {
    /// Both directions end, politely unless it was reset.
    fn close(&self) {
        let reset = socket2::SockRef::from(&self.client).linger().is_ok_and(|l| l.is_some());
        let how = if reset { Shutdown::Read } else { Shutdown::Both };
        let _ = (self.client.shutdown(how), self.server.shutdown(how));
    }
}

struct Shared {
    target: Mutex<SocketAddr>,
    plan: Mutex<Plan>,
    links: Mutex<Vec<Arc<Link>>>,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on `port` (0: a free one) for the server at `target`, until the test process ends.
    pub(crate) fn start(port: u16, target: &str) -> Self {
        let target: SocketAddr = target.parse().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { target: Mutex::new(target), plan: Mutex::new(Plan::Forward), links: Mutex::default() });
        let of_listener = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let target = *of_listener.target.lock();
                let Ok(server) = TcpStream::connect(target) else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let link = Arc::new(Link { client, server, silent: AtomicBool::new(false) });
                of_listener.links.lock().push(link.clone());
                for to_server in [true, false] {
                    let (shared, link) = (of_listener.clone(), link.clone());
                    std::thread::spawn(move || {
                        shared.carry(&link, to_server);
                        link.close();
                        shared.links.lock().retain(|l| !Arc::ptr_eq(l, &link));
                    });
                }
            }
        });
        Self { port, shared }
    }

    pub(crate) fn set(&self, plan: Plan) {
        *self.shared.plan.lock() = plan;
    }

    /// Whether the fault has happened.
    pub(crate) fn done(&self) -> bool {
        *self.shared.plan.lock() == Plan::Forward
    }

    /// Later connections go to another server; those that are open stay where they are.
    pub(crate) fn point_at(&self, port: u16) {
        *self.shared.target.lock() = SocketAddr::from(([127, 0, 0, 1], port));
    }

    /// Resets open connections, every `nth` of them: both ends get an RST.
    pub(crate) fn reset(&self, nth: usize) {
        for link in self.shared.links.lock().iter().step_by(nth) {
            for end in [&link.client, &link.server] {
                // Closing with a linger of zero is what sends an RST. The threads wake up, and the last one closes.
                let _ = socket2::SockRef::from(end).set_linger(Some(Duration::ZERO));
                let _ = end.shutdown(Shutdown::Read);
            }
        }
    }

    /// Open connections go silent for ever; later ones are not touched.
    pub(crate) fn silence(&self) {
        self.shared.links.lock().iter().for_each(|l| l.silent.store(true, Ordering::Relaxed));
    }
}

impl Shared {
    /// Carries one direction of a link until either end closes, or the plan cuts it.
    fn carry(&self, link: &Link, to_server: bool) {
        let (mut from, mut to) = if to_server { (&link.client, &link.server) } else { (&link.server, &link.client) };
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let pass = match self.plan_of(link, to_server, n) {
                Plan::Forward => n,
                Plan::CutAfter(left) => left.min(n),
                Plan::Delay(wait) => {
                    std::thread::park_timeout(wait);
                    n
                }
                Plan::Silent => continue,
                Plan::Late(wait) => return deliver_late(link, buffer[..n].to_vec(), wait),
            };
            if to.write_all(&buffer[..pass]).is_err() || pass < n {
                return;
            }
        }
    }

    /// What is to be done with the next `n` bytes.
    fn plan_of(&self, link: &Link, to_server: bool, n: usize) -> Plan {
        if link.silent.load(Ordering::Relaxed) {
            return Plan::Silent;
        }
        let mut plan = self.plan.lock();
        match *plan {
            Plan::CutAfter(_) if to_server => Plan::Forward,
            Plan::CutAfter(left) if left > n => {
                *plan = Plan::CutAfter(left - n);
                Plan::Forward
            }
            Plan::CutAfter(left) => {
                *plan = Plan::Forward;
                // Cut at the end of a piece is cut as well.
                Plan::CutAfter(left.min(n - 1))
            }
            Plan::Late(_) if !to_server => Plan::Forward,
            Plan::Late(wait) => {
                *plan = Plan::Forward;
                link.silent.store(true, Ordering::Relaxed);
                Plan::Late(wait)
            }
            Plan::Silent => {
                link.silent.store(true, Ordering::Relaxed);
                Plan::Silent
            }
            other => other,
        }
    }
}

/// Takes all that the client has to send, cuts it off, and lets the server have it when the client has long given up.
fn deliver_late(link: &Link, mut held: Vec<u8>, wait: Duration) {
    let mut client = &link.client;
    let _ = client.set_read_timeout(Some(QUIET));
    let mut buffer = vec![0; 64 << 10];
    loop {
        match client.read(&mut buffer) {
            Ok(n @ 1..) => held.extend(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    std::thread::park_timeout(wait);
    let _ = (&link.server).write_all(&held);
    // The server runs what it got before it sees the end; its answers are swallowed by the other direction until then.
    let _ = link.server.shutdown(Shutdown::Write);
    let _ = link.server.set_read_timeout(Some(Duration::from_secs(10)));
    while (&link.server).read(&mut buffer).is_ok_and(|n| n > 0) {}
}
