//! What the poller does about what Kafka refuses ([`super::super::refusal`]).
use super::super::refusal::Elsewhere;
use super::super::telling::Telling;
use super::Poller;
use std::time::Duration;

impl Poller {
    /// Commits once more what is settled of a topic, where Kafka refused something.
    pub(super) fn try_refused(&mut self, now: Duration) {
        let settled = self.flow.topics().into_iter().map(|topic| (self.flow.settled(&topic), topic)).filter(|(settled, _)| !settled.is_empty());
        let Some(topic) = self.refusal.next(settled.map(|(_, topic)| topic), now) else { return };
        let positions = self.flow.settled(&topic);
        self.committing = Some(positions.clone());
        self.commit(positions, true);
    }

    /// A broker refused the client.
    pub fn refused(&mut self, now: Duration) {
        self.refusal.refused(now);
    }

    /// Takes note of what else shows whether Kafka still refuses something.
    pub fn elsewhere(&mut self, elsewhere: Elsewhere, now: Duration) {
        if self.refusal.is_due(now) && self.refusal.is_over(self.flow.topics(), elsewhere, now) {
            self.tell(Telling::Clear { code: "kafka-refused", subject: "kafka".into() });
        }
    }
}
