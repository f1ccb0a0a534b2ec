//! A Redis some milliseconds away: in a network namespace behind `tc netem` where the kernel has it and we are root, else
//! behind a line of our own that lets bytes through as late.
use crate::bed::QUIET;
use crate::support::redis_server::{Kind, RedisServer};
use crossbeam_channel::{Receiver, bounded};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Our end, Redis' end: link-local, for nobody else.
const NEAR: &str = "169.254.77.1";
const FAR: &str = "169.254.77.2";

/// A pair of interfaces of which one is in a namespace of its own; gone with this value.
struct Namespace {
    name: String,
    near: String,
}

/// One command of iproute2.
fn ip(words: &str) -> Result<(), String> {
    let mut split = words.split(' ');
    let run = Command::new(split.next().unwrap()).args(split).output();
    match run {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(output) => Err(format!("{words}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(e) => Err(format!("{words}: {e}")),
    }
}

impl Namespace {
    /// Each way takes half of the round trip.
    fn make(round_trip: Duration) -> Result<Self, String> {
        let name = format!("bridge{}", std::process::id());
        ip(&format!("ip netns add {name}"))?;
        let made = Self { near: format!("kr{}", std::process::id()), name };
        let (name, near) = (&made.name, &made.near);
        let (inside, half) = (format!("ip netns exec {name}"), round_trip.as_micros() / 2);
        // The limit counts packets: those on their way must have room.
        let netem = format!("root netem delay {half}us limit 100000");
        ip(&format!("ip link add {near} type veth peer name far netns {name}"))?;
        ip(&format!("ip addr add {NEAR}/30 dev {near}"))?;
        ip(&format!("ip link set {near} up"))?;
        ip(&format!("{inside} ip addr add {FAR}/30 dev far"))?;
        ip(&format!("{inside} ip link set far up"))?;
        ip(&format!("tc qdisc add dev {near} {netem}"))?;
        ip(&format!("{inside} tc qdisc add dev far {netem}"))?;
        Ok(made)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = (ip(&format!("ip link del {}", self.near)), ip(&format!("ip netns del {}", self.name)));
    }
}

/// Listens for the server at `target`, and lets everything through so much later, each way; until the process ends.
fn line(target: String, later: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&target) else { continue };
            for (from, to) in [(&client, &server), (&server, &client)] {
                to.set_nodelay(true).unwrap();
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                // More than is ever on its way in a few milliseconds.
                let (pieces, due) = bounded(4096);
                std::thread::spawn(move || take(from, later, |piece| pieces.send(piece).is_ok()));
                std::thread::spawn(move || give(to, &due));
            }
        }
    });
    port
}

type Piece = (Instant, Vec<u8>);

fn take(mut from: TcpStream, later: Duration, hand_on: impl Fn(Piece) -> bool) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if !hand_on((Instant::now() + later, buffer[..n].to_vec())) {
            return;
        }
    }
}

fn give(mut to: TcpStream, pieces: &Receiver<Piece>) {
    for (due, piece) in pieces {
        crate::support::pass(due.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// See the module's documentation.
pub(crate) struct Far {
    pub(crate) redis: RedisServer,
    /// Where it is reached, far away.
    pub(crate) address: String,
    /// Why it is not by netem.
    pub(crate) without_netem: Option<String>,
    /// Outlives the server in it.
    _namespace: Option<Namespace>,
}

impl Far {
    pub(crate) fn make(round_trip: Duration) -> Self {
        match Namespace::make(round_trip) {
            Ok(namespace) => {
                let redis = RedisServer::within(&namespace.name, FAR, &[&QUIET[..], &["--protected-mode", "no"]].concat());
                Self { address: format!("{FAR}:{}", redis.port), redis, without_netem: None, _namespace: Some(namespace) }
            }
            Err(why) => {
                let redis = RedisServer::with(Kind::System, &QUIET);
                let port = line(format!("127.0.0.1:{}", redis.port), round_trip / 2);
                Self { redis, address: format!("127.0.0.1:{port}"), without_netem: Some(why), _namespace: None }
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }
}
