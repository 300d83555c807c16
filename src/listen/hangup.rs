//! Whether a client that has sent FIN took the response, or was gone.
//!
//! A FIN looks the same from a client that half-closed and waits for its answer as from one that went
//! away. The difference shows once the answer was written: the first acknowledges it, the second's
//! kernel answers with a reset.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// Longest wait for the acknowledgement: a few round trips round the world.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until everything written has been acknowledged (`true`), or the connection was reset or
/// patience ran out (`false`).
pub(super) async fn acknowledged(socket: &impl AsFd) -> bool {
    let mut waited = Duration::ZERO;
    loop {
        let socket = socket.as_fd();
        match rustix::net::sockopt::socket_error(socket) {
            Ok(Ok(())) => {}
            _ => return false,
        }
        if unacknowledged(socket) == Some(0) {
            return true;
        }
        if waited >= PATIENCE {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
}

/// Bytes written to the socket and not yet acknowledged (Linux `SIOCOUTQ`, tcp(7)).
fn unacknowledged(socket: BorrowedFd<'_>) -> Option<libc::c_int> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ) writes one int to the given address, which is
    // that of a live local; the descriptor is borrowed, so it is open for the whole call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    (done == 0).then_some(bytes)
}
