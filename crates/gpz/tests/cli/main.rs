//! The built binary as a person uses it: arguments in, one result or one line of error out.

mod arrays;
mod bad_input;
mod checkpoints;
mod common;
mod declared;
mod decoders;
mod devices;
mod foreign;
mod lpips;
mod results;
mod resume;
