//! A TCP proxy on loopback, for faults that a real server does not make by itself.
use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// What the proxy does to the bytes that the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Forward,
    /// Let so many more bytes of answers through, then cut that connection, once.
    CutAfter(usize),
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    plan: Arc<Mutex<Plan>>,
}

impl Proxy {
    /// Listens on `port` (0: a free one) for the server at `target`, until the test process ends.
    pub(crate) fn start(port: u16, target: &str) -> Self {
        let target: SocketAddr = target.parse().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan = Arc::new(Mutex::new(Plan::Forward));
        let shared = plan.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(target) else { continue };
                let (c, s) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || copy(c, s, None));
                let plan = shared.clone();
                std::thread::spawn(move || copy(server, client, Some(&plan)));
            }
        });
        Self { port, plan }
    }

    pub(crate) fn set(&self, plan: Plan) {
        *self.plan.lock() = plan;
    }

    /// Whether the fault has happened.
    pub(crate) fn done(&self) -> bool {
        *self.plan.lock() == Plan::Forward
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, plan: Option<&Mutex<Plan>>) {
    let mut buffer = [0; 4096];
    while let Ok(n) = from.read(&mut buffer) {
        let (pass, cut) = match plan.map(|p| p.lock()) {
            Some(mut plan) => match *plan {
                Plan::Forward => (n, false),
                Plan::CutAfter(left) if left > n => {
                    *plan = Plan::CutAfter(left - n);
                    (n, false)
                }
                Plan::CutAfter(left) => {
                    *plan = Plan::Forward;
                    (left, true)
                }
            },
            None => (n, false),
        };
        if n == 0 || to.write_all(&buffer[..pass]).is_err() || cut {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
