//! Maintained views against DataFusion itself: after every epoch the rows of a view are what its own text answers, asked
//! ad hoc of that instant, with 1, 2 and 4 workers.
//!
//! | test | what is compared |
//! | --- | --- |
//! | `late` | views that come when what they read is there already |
//! | `paced` | how others' epochs fare while a view comes, turn by turn |
//! | `random` | generated queries over random logs, many in one engine, over views, installed late, replaced and removed |
//! | `second_opinion` | what PostgreSQL answers to generated queries, asked ad hoc: both paths share a planner, which may be wrong |
//! | `shipped` | the views of `queries/` over generated logs of an Inventory |
//! | `slt` | the texts and answers of `tests/sql/*.slt`, and every refusal with its words |
//!
//! `TARN_VIEWS_CHECKS=100000 cargo test --test it views::random` checks more queries; `TARN_VIEWS_FIRST=n`
//! others; `TARN_VIEWS_SEED=n` one case.

mod cases;
mod choices;
mod comparison;
mod events;
mod generator;
mod guarded;
mod late;
mod paced;
mod pages;
mod random;
mod second_opinion;
mod shipped;
mod slt;
