//! Where the log ends now: asked by readers who wait until all of it is shown, answered by the source.
//!
//! A question is a number. A source takes all that were asked until now at once ([`EndOfLog::take`]), looks, and answers
//! them together; so however many wait, the log is asked once at a time. Every answer was looked for after its question
//! was asked. A source that has ended answers all that will ever be asked.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::watch;

use crate::model::Position;

/// A question, and with it all that were asked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question(u64);

/// The next offset of every partition at the end of the log, or why it is not known.
pub type End = Result<Arc<Position>, Arc<str>>;

/// Wakes who answers.
pub type Bell = dyn Fn() + Send + Sync;

/// The questions and their answers; shared between a source and those who ask.
#[derive(Clone, Default)]
pub struct EndOfLog(Arc<Shared>);

struct Shared {
    asked: AtomicU64,
    taken: AtomicU64,
    answered: watch::Sender<(Question, End)>,
    bell: Mutex<Option<Weak<Bell>>>,
}

impl Default for Shared {
    fn default() -> Self {
        let nothing = (Question(0), Err("nobody has asked yet".into()));
        let (asked, taken, bell) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::default());
        Self { asked, taken, answered: watch::Sender::new(nothing), bell }
    }
}

impl fmt::Debug for EndOfLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndOfLog({} questions)", self.0.asked.load(Ordering::Relaxed))
    }
}

impl EndOfLog {
    /// Asks where the log ends from now on.
    pub fn ask(&self) -> Question {
        let question = Question(self.0.asked.fetch_add(1, Ordering::AcqRel) + 1);
        let bell = self.0.bell.lock().expect("nobody panics with the bell").as_ref().and_then(Weak::upgrade);
        if let Some(bell) = bell {
            bell();
        }
        question
    }

    /// What the source has answered to a question, once it has.
    pub async fn answer_to(&self, question: Question) -> End {
        let mut answers = self.0.answered.subscribe();
        match answers.wait_for(|(answered, _)| *answered >= question).await {
            Ok(answer) => answer.1.clone(),
            Err(_) => Err("the source is gone".into()),
        }
    }

    /// For a source that does not look by itself: who is woken by a question, for as long as it lives.
    pub fn wake(&self, bell: &Arc<Bell>) {
        *self.0.bell.lock().expect("nobody panics with the bell") = Some(Arc::downgrade(bell));
    }

    /// For a source: what was asked and not taken yet.
    pub fn take(&self) -> Option<Question> {
        let asked = self.0.asked.load(Ordering::Acquire);
        (self.0.taken.fetch_max(asked, Ordering::AcqRel) < asked).then_some(Question(asked))
    }

    /// For a source: where the log ends, looked for after a question was taken.
    pub fn answer(&self, question: Question, end: Result<Position, String>) {
        let end = end.map(Arc::new).map_err(Into::into);
        self.0.answered.send_if_modified(|answered| {
            let is_newer = question > answered.0;
            if is_newer {
                *answered = (question, end);
            }
            is_newer
        });
    }

    /// For a source: the log has ended, and this is where.
    pub fn has_ended(&self, end: Position) {
        self.answer(Question(u64::MAX), Ok(end));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn position(next: i64) -> Position {
        let mut position = Position::default();
        position.advance(&"t".into(), 0, next);
        position
    }

    #[test]
    fn one_answer_serves_all_that_were_asked_before_it_was_looked_for() {
        let end = EndOfLog::default();
        assert_eq!(end.take(), None);
        let (first, second) = (end.ask(), end.ask());
        let taken = end.take().expect("two questions");
        let third = end.ask();
        end.answer(taken, Ok(position(5)));
        let told = |question| end.answer_to(question).now_or_never().map(|end| end.map(|end| (*end).clone()));
        assert_eq!((told(first), told(second)), (Some(Ok(position(5))), Some(Ok(position(5)))));
        assert_eq!(told(third), None, "it was asked after the look had begun");
        let taken = end.take().expect("the third");
        assert_eq!(end.take(), None);
        end.answer(taken, Err("no broker".to_owned()));
        assert_eq!(told(third), Some(Err("no broker".into())));
        end.has_ended(position(9));
        assert_eq!(told(end.ask()), Some(Ok(position(9))), "nothing comes after the end");
    }

    #[test]
    fn a_question_wakes_who_answers_while_it_lives() {
        let (end, rung) = (EndOfLog::default(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&rung);
        let bell: Arc<Bell> = Arc::new(move || counted.store(1 + counted.load(Ordering::Relaxed), Ordering::Relaxed));
        end.wake(&bell);
        end.ask();
        drop(bell);
        end.ask();
        assert_eq!(rung.load(Ordering::Relaxed), 1);
    }
}
