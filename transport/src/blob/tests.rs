mod hostile;
mod kit;
mod protocol;
mod transfers;
