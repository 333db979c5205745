//! The machine, by example and by property, on a [`Stage`] that plays the executor and checks every action.

mod by_example;
mod by_property;
mod foresight;
mod stage;

use stage::{Life, Stage};
