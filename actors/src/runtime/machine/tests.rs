//! The machine, by example and by property, on a [`Stage`] that plays launcher, engine and requests, and
//! checks every action.

mod by_example;
mod by_property;
mod foresight;
mod stage;

use stage::{Program, Stage};
