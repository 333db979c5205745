//! How far each connection is with its request.
//!
//! Owns a connection's stage and the rules by which it moves. What moves it is in `watched.rs`, what follows
//! from it in `admission.rs`. Refuses to know sockets and HTTP beyond where a head ends.
//!
//! ```text
//!   Idle ──first byte──▶ Head ──whole──▶ Body ──whole──▶ Working ──answered, and all of it written──▶ Idle, or Head where more has come
//! ```

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::moment::Moment;
use futures_util::task::AtomicWaker;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::admission::{Places, Row, Stage};

/// A client that takes so much of a large answer goes on: it is slow, but nothing is wrong with it. As much
/// as a node that reads an answer has to take.
const STEP_BYTES: usize = 64 << 10;

/// What the connections of one gateway share.
#[derive(Debug)]
pub(super) struct Room {
    places: Places,
    /// One permit for each request that may last.
    lasting: Arc<Semaphore>,
    /// Somebody waits for a place.
    is_wanted: AtomicBool,
    freed: Notify,
}

impl Room {
    pub(super) fn new(places: Places) -> Self {
        Self {
            places,
            lasting: Arc::new(Semaphore::new(places.open())),
            is_wanted: AtomicBool::new(false),
            freed: Notify::new(),
        }
    }

    pub(super) fn places(&self) -> Places {
        self.places
    }

    /// From now on [`Room::freed`] is told. Look at the rows again after this.
    pub(super) fn want(&self, is_wanted: bool) {
        self.is_wanted.store(is_wanted, Ordering::SeqCst);
    }

    /// Some connection may have become one that can give way.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    fn tell(&self) {
        if self.is_wanted.load(Ordering::SeqCst) {
            self.freed.notify_one();
        }
    }
}

/// One connection's.
#[derive(Debug)]
pub(super) struct Progress {
    clock: Clock,
    room: Arc<Room>,
    source: IpAddr,
    state: Mutex<State>,
    /// The connection's task. hyper does not look at a socket again that had nothing to read while an answer
    /// was under way, so that nobody would begin to wait for the next request.
    task: AtomicWaker,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    since: Moment,
    behind_since: Option<Moment>,
    /// So much was taken since then.
    taken_bytes: usize,
    /// The answer is complete; what is left of it is still to be written.
    is_answered: bool,
    /// It gives way to another: no request of it begins any more.
    is_closing: bool,
    /// The last bytes that came.
    tail: [u8; 4],
    /// Bytes of the next request have come with this one.
    has_more: bool,
    /// Of a request that may last.
    place: Option<OwnedSemaphorePermit>,
}

impl Progress {
    pub(super) fn new(clock: Clock, room: Arc<Room>, source: IpAddr) -> Self {
        let state = State {
            stage: Stage::Idle,
            since: clock.now(),
            behind_since: None,
            taken_bytes: 0,
            is_answered: false,
            is_closing: false,
            tail: [0; 4],
            has_more: false,
            place: None,
        };
        Self { clock, room, source, state: Mutex::new(state), task: AtomicWaker::new() }
    }

    /// Whom to wake when it is the client's turn.
    pub(super) fn serve_in(&self, task: &Waker) {
        self.task.register(task);
    }

    pub(super) fn row(&self) -> Row {
        let state = self.state();
        Row { source: self.source, stage: state.stage, since: state.since, behind_since: state.behind_since }
    }

    /// It gives way. False when a request has begun since it was looked at.
    pub(super) fn close(&self) -> bool {
        let mut state = self.state();
        state.is_closing = state.stage != Stage::Working || state.behind_since.is_some();
        if state.is_closing {
            // The newcomer may be the one that needs it, and this connection's task ends a moment later.
            state.place = None;
        }
        state.is_closing
    }

    /// This request may be answered: one that may last while fewer of them than open places are under way,
    /// and any other always. Which connection asks, and how many there are, makes no difference: those that
    /// are idle give way to others.
    pub(super) fn admits(&self, may_last: bool) -> bool {
        if !may_last {
            return true;
        }
        let place = Arc::clone(&self.room.lasting).try_acquire_owned().ok();
        let is_admitted = place.is_some();
        self.state().place = place;
        is_admitted
    }

    /// The connection has ended, with whatever was under way.
    pub(super) fn ended(&self) {
        self.state().place = None;
    }

    /// Bytes have come.
    pub(super) fn received(&self, bytes: &[u8]) {
        let mut state = self.state();
        match state.stage {
            Stage::Idle => state.enter(Stage::Head, self.clock.now()),
            Stage::Head | Stage::Body => {}
            Stage::Working => state.has_more = true,
        }
        for &byte in bytes.iter().rev().take(4).rev() {
            state.tail.rotate_left(1);
            state.tail[3] = byte;
        }
    }

    /// A head is whole. False when the connection is being closed for another one.
    pub(super) fn began(&self, has_body: bool) -> bool {
        let mut state = self.state();
        if state.is_closing {
            return false;
        }
        state.place = None;
        state.is_answered = false;
        // What comes behind a head without a body belongs to the next one.
        let is_at_an_end = state.tail == *b"\r\n\r\n" || state.tail.ends_with(b"\n\n");
        state.has_more = !has_body && !is_at_an_end;
        let stage = if has_body { Stage::Body } else { Stage::Working };
        state.enter(stage, self.clock.now());
        drop(state);
        if has_body {
            self.room.tell();
        }
        true
    }

    /// The request's body is whole, or nobody wants more of it.
    pub(super) fn body_ended(&self) {
        let mut state = self.state();
        if state.stage == Stage::Body {
            state.enter(Stage::Working, self.clock.now());
        }
    }

    /// The answer is complete, and goes to the socket next: [`Progress::caught_up`].
    pub(super) fn answered(&self) {
        let mut state = self.state();
        if state.stage == Stage::Body {
            state.enter(Stage::Working, self.clock.now());
        }
        state.is_answered = true;
        drop(state);
        self.task.wake();
    }

    /// The client does not take what is written.
    pub(super) fn fell_behind(&self) {
        let mut state = self.state();
        if state.behind_since.is_none() {
            state.behind_since = Some(self.clock.now());
            state.taken_bytes = 0;
            drop(state);
            self.room.tell();
        }
    }

    /// The client has made room for so much more.
    pub(super) fn wrote(&self, bytes: usize) {
        let mut state = self.state();
        state.taken_bytes = state.taken_bytes.saturating_add(bytes);
        if state.behind_since.is_some() && state.taken_bytes >= STEP_BYTES {
            state.behind_since = Some(self.clock.now());
            state.taken_bytes = 0;
        }
    }

    /// All that was written is on its way. With an answer's end among it, the client is next: not before,
    /// because who is idle can be closed for another one, and that would cut the answer.
    pub(super) fn caught_up(&self) {
        let mut state = self.state();
        let was_behind = state.behind_since.take().is_some();
        let is_over = std::mem::take(&mut state.is_answered);
        if is_over {
            let next = if state.has_more { Stage::Head } else { Stage::Idle };
            state.enter(next, self.clock.now());
            state.place = None;
        }
        drop(state);
        if is_over {
            self.task.wake();
        }
        if is_over || was_behind {
            self.room.tell();
        }
    }

    /// Until when the client may take to send what is missing, and what that is.
    pub(super) fn deadline(&self, patience: Patience) -> Option<(Stage, Moment)> {
        let state = self.state();
        if state.behind_since.is_some() {
            return None;
        }
        let span = match state.stage {
            Stage::Idle => patience.idle,
            Stage::Head => patience.head,
            // The handler that reads the body limits its time.
            Stage::Body | Stage::Working => return None,
        };
        Some((state.stage, state.since + span))
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, stage: Stage, now: Moment) {
        self.stage = stage;
        self.since = now;
    }
}

/// How long clients may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From the end of an answer to the first byte of the next request.
    pub(super) idle: Duration,
    /// From the first byte of a head to its last.
    pub(super) head: Duration,
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;
    use crate::server::admission::{Admission, BEHIND, admit};

    fn progress() -> Progress {
        let room = Arc::new(Room::new(Places::of(32)));
        Progress::new(Clock::system(), room, IpAddr::from([127, 0, 0, 1]))
    }

    /// HTTP-6: the time for a head runs only while a part of one is there.
    #[test]
    fn a_half_head_behind_a_whole_one_is_seen() {
        let progress = progress();
        assert_eq!(progress.row().stage, Stage::Idle);
        progress.received(b"GET / HTTP/1.1\r\n\r\nGET");
        assert!(progress.began(false));
        progress.answered();
        progress.caught_up();
        assert_eq!(progress.row().stage, Stage::Head);
        progress.received(b" / HTTP/1.1\r\n\r");
        progress.received(b"\n");
        assert!(progress.began(false));
        progress.answered();
        progress.caught_up();
        assert_eq!(progress.row().stage, Stage::Idle);
        progress.received(b"GET / HTTP/1.1\r\n\r\n");
        assert!(progress.began(false));
        // While the answer is under way.
        progress.received(b"G");
        progress.answered();
        progress.caught_up();
        assert_eq!(progress.row().stage, Stage::Head);
    }

    #[test]
    fn a_body_ends_before_the_work_begins() {
        let progress = progress();
        progress.received(b"POST / HTTP/1.1\r\n\r\n{");
        assert!(progress.began(true));
        assert_eq!(progress.row().stage, Stage::Body);
        progress.body_ended();
        assert_eq!(progress.row().stage, Stage::Working);
        progress.answered();
        progress.body_ended();
        assert_eq!(progress.row().stage, Stage::Working);
        progress.caught_up();
        assert_eq!(progress.row().stage, Stage::Idle);
    }

    /// HTTP-6: what gives way begins no request, and what has begun one does not give way.
    #[test]
    fn a_connection_either_gives_way_or_serves() {
        let one = progress();
        assert!(one.close());
        assert!(!one.began(false));
        let two = progress();
        assert!(two.began(false));
        assert!(!two.close());
    }

    /// HTTP-6: a steady reader of one large answer gives way to nobody, one that drips does.
    #[tokio::test(start_paused = true)]
    async fn a_client_is_behind_from_the_last_step_that_it_took() {
        let progress = progress();
        assert!(progress.began(false));
        progress.fell_behind();
        let decide = || admit([(0, progress.row())].into_iter(), Places::of(1), progress.clock().now());
        for _ in 0..100 {
            tokio::time::advance(BEHIND - Duration::from_secs(1)).await;
            assert_eq!(decide(), Admission::Wait);
            progress.wrote(STEP_BYTES - 1);
            progress.fell_behind();
            progress.wrote(1);
            progress.fell_behind();
        }
        tokio::time::advance(BEHIND - Duration::from_secs(1)).await;
        progress.wrote(STEP_BYTES - 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(decide(), Admission::Replace(0));
    }

    fn progress_in(room: &Arc<Room>) -> Progress {
        Progress::new(Clock::system(), Arc::clone(room), IpAddr::from([127, 0, 0, 1]))
    }

    /// HTTP-6: the kept places are for what is over in a moment.
    #[test]
    fn kept_places_serve_what_is_over_in_a_moment() {
        let room = Arc::new(Room::new(Places::of(32)));
        let busy: Vec<Progress> = (0..30).map(|_| progress_in(&room)).collect();
        assert!(busy.iter().all(|one| one.began(false) && one.admits(true)));
        let extra = progress_in(&room);
        assert!(extra.began(false) && extra.admits(false) && !extra.admits(true));
        busy[0].answered();
        assert!(!extra.admits(true));
        busy[0].caught_up();
        assert!(extra.admits(true));
    }

    /// HTTP-6: one that gave its place to another holds nothing back.
    #[test]
    fn a_connection_that_gives_way_or_ends_leaves_its_place_at_once() {
        let room = Arc::new(Room::new(Places::of(1)));
        let (slow, gone, new) = (progress_in(&room), progress_in(&room), progress_in(&room));
        assert!(slow.began(false) && slow.admits(true) && !new.admits(true));
        slow.fell_behind();
        assert!(slow.close() && gone.admits(true) && !new.admits(true));
        gone.ended();
        assert!(new.admits(true));
    }

    proptest! {
        /// HTTP-6: whatever comes and goes, as many requests that may last are under way as there are open
        /// places, and one is refused only then, however many connections are idle; what is over in a moment
        /// never is.
        #[test]
        fn only_requests_that_last_keep_others_that_last_out(
            most in 1_usize..40,
            moves in proptest::collection::vec((0_usize..40, 0_u8..5), 0..200),
        ) {
            let room = Arc::new(Room::new(Places::of(most)));
            let mut connections: Vec<(Progress, bool)> = (0..most).map(|_| (progress_in(&room), false)).collect();
            for (index, kind) in moves {
                let lasting = connections.iter().filter(|(_, lasts)| *lasts).count();
                prop_assert!(lasting <= room.places().open());
                let (connection, lasts) = &mut connections[index % most];
                let is_working = connection.row().stage == Stage::Working;
                match kind {
                    0 | 1 if !is_working => {
                        prop_assert!(connection.began(false));
                        let may_last = kind == 0;
                        let is_admitted = connection.admits(may_last);
                        prop_assert_eq!(is_admitted, !may_last || lasting < room.places().open());
                        *lasts = is_admitted && may_last;
                        if !is_admitted {
                            connection.answered();
                            connection.caught_up();
                        }
                    }
                    2 => { connection.answered();
                        connection.caught_up();
                        *lasts = false; }
                    // Another one in its place, as `Connections::take` does it.
                    3 if connection.close() => (*connection, *lasts) = (progress_in(&room), false),
                    4 => { connection.ended(); (*connection, *lasts) = (progress_in(&room), false); }
                    _ => {}
                }
            }
        }
    }

    /// What happens to one connection, besides the time.
    async fn happens(
        event: u8,
        progress: &Progress,
        owes: &mut bool,
        is_whole: &mut bool,
        in_body: &mut bool,
    ) {
        match event {
            0 => progress.received(b"GET"),
            1 | 2 if !*owes => {
                assert!(progress.began(event == 2));
                (*owes, *is_whole, *in_body) = (true, false, event == 2);
            }
            3 => {
                progress.body_ended();
                *in_body = false;
            }
            4 if *owes => {
                progress.answered();
                (*is_whole, *in_body) = (true, false);
            }
            5 => progress.fell_behind(),
            6 => {
                progress.caught_up();
                *owes &= !*is_whole;
                *is_whole = false;
            }
            7 => progress.wrote(STEP_BYTES),
            8 => tokio::time::advance(BEHIND).await,
            _ => {}
        }
    }

    proptest! {
        /// HTTP-6: no answer is cut while its client takes it, up to its last byte; and who waits for a place
        /// is told of each connection that becomes one to give way, unless time alone made it so.
        #[test]
        fn an_answer_keeps_its_place_until_it_is_written(events in proptest::collection::vec(0_u8..9, 0..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.unwrap().block_on(async {
                let room = Arc::new(Room::new(Places::of(1)));
                room.want(true);
                let progress = progress_in(&room);
                let gives_way = || {
                    let row = [(0, progress.row())].into_iter();
                    admit(row, room.places(), progress.clock().now()) == Admission::Replace(0)
                };
                let (mut owes, mut is_whole, mut in_body) = (false, false, false);
                for event in events {
                    let gave_way = gives_way();
                    let _ = room.freed().now_or_never();
                    happens(event, &progress, &mut owes, &mut is_whole, &mut in_body).await;
                    let is_told = room.freed().now_or_never().is_some();
                    if owes && !in_body && progress.row().behind_since.is_none() {
                        prop_assert!(!gives_way());
                    }
                    prop_assert!(event == 8 || gave_way || !gives_way() || is_told, "{event}: {:?}", progress.row());
                }
                Ok(())
            })?;
        }
    }
}
