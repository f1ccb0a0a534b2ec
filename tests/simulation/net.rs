//! The wires between bridges and Redis: commands and replies are on their way, wires break, what was sent may still
//! arrive after its sender gave up; and the servers at their end, of which one is the master.
use super::random::Random;
use super::server::{Command, Data, Dialect, Redis};
use crate::core::encode::parse_commands;
use crate::core::reply::Reply;
use std::collections::{BTreeMap, VecDeque};

struct Wire {
    server: usize,
    /// Which process is at the other end.
    life: usize,
    /// Sent, and not yet served.
    inbound: VecDeque<Command>,
    replies: Vec<Reply>,
    /// Its sender still waits.
    listening: bool,
    broken: bool,
}

/// See the module's documentation.
pub(crate) struct Net {
    servers: Vec<Redis>,
    wires: BTreeMap<usize, Wire>,
    made: usize,
}

/// What has come back on a wire.
pub(crate) enum Arrival {
    Pending,
    All(Vec<Reply>),
    Broken,
}

impl Net {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self { servers: vec![Redis::new(dialect, Data::new())], wires: BTreeMap::new(), made: 0 }
    }

    /// The master.
    pub(crate) fn redis(&mut self) -> &mut Redis {
        self.servers.last_mut().unwrap()
    }

    pub(crate) fn master(&self) -> &Redis {
        self.servers.last().unwrap()
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = &Redis> {
        self.servers.iter()
    }

    pub(crate) fn connect(&mut self, life: usize) -> usize {
        self.made += 1;
        let wire = Wire { server: self.servers.len() - 1, life, inbound: VecDeque::new(), replies: Vec::new(), listening: true, broken: false };
        self.wires.insert(self.made, wire);
        self.made
    }

    pub(crate) fn send(&mut self, wire: usize, bytes: &[u8]) {
        if let Some(wire) = self.wires.get_mut(&wire).filter(|w| !w.broken) {
            wire.replies.clear();
            wire.inbound.extend(parse_commands(bytes).expect("whole commands"));
        }
    }

    pub(crate) fn receive(&mut self, wire: usize, replies: usize) -> Arrival {
        match self.wires.get_mut(&wire) {
            Some(wire) if wire.replies.len() >= replies => {
                assert_eq!(wire.replies.len(), replies, "more replies than were asked for");
                Arrival::All(std::mem::take(&mut wire.replies))
            }
            Some(wire) if !wire.broken => Arrival::Pending,
            _ => Arrival::Broken,
        }
    }

    /// Its sender gives up. Of what it sent, so many commands may still arrive, at any time.
    pub(crate) fn hang_up(&mut self, wire: usize, still: usize) {
        if let Some(wire) = self.wires.get_mut(&wire) {
            wire.listening = false;
            wire.inbound.truncate(still);
        }
    }

    /// A wire breaks: what had not arrived is lost.
    pub(crate) fn break_one(&mut self, random: &mut Random) {
        if let Some((&id, wire)) = self.wires.iter_mut().nth(random.below(self.made)) {
            wire.broken = true;
            wire.inbound.clear();
            let server = wire.server;
            self.servers[server].drop_connection(id);
        }
    }

    /// Some commands of some wire are served, in order.
    pub(crate) fn serve(&mut self, random: &mut Random) {
        let busy: Vec<usize> = self.wires.iter().filter(|(_, w)| !w.inbound.is_empty() || !w.listening).map(|(id, _)| *id).collect();
        if busy.is_empty() {
            return;
        }
        let id = busy[random.below(busy.len())];
        let wire = self.wires.get_mut(&id).unwrap();
        // Mostly all of them: a server reads a whole pipeline, but it need not.
        let n = if random.percent(70) { wire.inbound.len() } else { 1 + random.below(wire.inbound.len()) };
        for _ in 0..n {
            let Some(command) = wire.inbound.pop_front() else { break };
            let server = &mut self.servers[wire.server];
            let owners = if command[0] == b"EXEC" { server.owners_of_queued_positions(id) } else { Vec::new() };
            let reply = server.command(id, command);
            if matches!(reply, Reply::Array(_)) {
                let ours = format!("owner-{}-", wire.life);
                assert!(owners.iter().all(|o| o.starts_with(&ours)), "a batch of {ours} was applied under {owners:?}");
            }
            wire.replies.push(reply);
        }
        if wire.inbound.is_empty() && !wire.listening {
            self.servers[wire.server].drop_connection(id);
            self.wires.remove(&id);
        }
    }

    /// Whether nothing is on its way that nobody waits for.
    pub(crate) fn is_quiet(&self) -> bool {
        self.wires.values().all(|w| w.listening)
    }

    /// Another server becomes the master, with this data. The former one goes on serving who is connected to it, until
    /// [`Self::end_split`].
    pub(crate) fn promote(&mut self, data: Data) {
        self.servers.push(Redis::new(self.master().dialect, data));
    }

    /// Every server but the master is gone.
    pub(crate) fn end_split(&mut self) {
        let master = self.servers.len() - 1;
        for wire in self.wires.values_mut().filter(|w| w.server != master) {
            wire.broken = true;
            wire.inbound.clear();
        }
        self.wires.retain(|_, w| !w.broken || w.listening);
    }
}
