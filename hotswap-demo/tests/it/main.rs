//! The demo as a process: what it prints, on pipes and on a terminal, and how it ends.

mod canary;
mod check;
mod demo;
mod dev;
mod ending;
mod examples;
mod json;
mod linking;
mod messages;
mod rollback;
mod swapping;
mod template;
mod terminal;
mod trial;
mod trust;
mod watching;
mod ws;
