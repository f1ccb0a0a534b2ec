//! What the poller tells a person ([`super::super::telling`]).
use super::super::telling::{Holder, Telling};
use super::{Action, Poller};
use std::time::Duration;

impl Poller {
    pub(super) fn tell(&mut self, telling: Telling) {
        self.act(Action::Tell(telling));
    }

    pub(super) fn tell_all(&mut self, tellings: impl IntoIterator<Item = Telling>) {
        tellings.into_iter().for_each(|t| self.tell(t));
    }

    pub(super) fn tell_letters(&mut self, now: Duration, all: bool) {
        let told = self.letters.due(now, all);
        self.tell_all(told);
    }

    pub(super) fn out_of_trouble(&mut self, holder: &Holder) {
        let over = self.troubles.leave(holder);
        self.tell_all(over);
    }
}
