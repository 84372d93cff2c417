//! The model owner's door: whoever comes has little time to say what it asks for, and keeps nobody else waiting.

use std::time::Duration;

use lowkey_mpc::channel::{Channel, Limits};
use lowkey_mpc::error::Error as ProtocolError;
use lowkey_mpc::party::Party;
use lowkey_mpc::runtime;

use super::terms::{Ask, hear};
use crate::client::give_up;
use crate::error::Result;
use crate::net::Stream;

/// The longest time until a data owner has said what it asks for.
pub const HELLO: Duration = Duration::from_secs(10);

/// A data owner that has said what it asks for, and was told nothing yet.
pub struct Met {
    pub(super) channel: Channel,
    pub(super) ask: Ask,
}

impl Met {
    /// Waits for what it asks for; for [`HELLO`] at most, in however many pieces that comes.
    ///
    /// # Errors
    /// When it is late, or speaks something else.
    pub async fn meet(stream: impl Stream + 'static, limits: Limits) -> Result<Self> {
        let mut channel = Channel::new(stream, Party::Server, limits);
        let after = HELLO.min(limits.timeout);
        let heard = runtime::timeout(after, hear(&mut channel)).await;
        match heard.unwrap_or_else(|_| Err(ProtocolError::Timeout { after }.into())) {
            Ok(ask) => Ok(Self { channel, ask }),
            Err(error) => {
                give_up(&mut channel, &error).await;
                Err(error)
            }
        }
    }
}

impl std::fmt::Debug for Met {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Met({:?})", self.ask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Misbehaviour};
    use tokio::io::AsyncWriteExt;

    async fn met(bytes: &[u8], every: Duration) -> Error {
        let (mut own, theirs) = tokio::io::duplex(1 << 10);
        let say = async {
            for byte in bytes {
                tokio::time::sleep(every).await;
                if own.write_all(&[*byte]).await.is_err() {
                    break;
                }
            }
            own
        };
        let limits = Limits { timeout: Duration::from_millis(300), ..Limits::default() };
        let (met, _) = tokio::join!(Met::meet(theirs, limits), say);
        met.unwrap_err()
    }

    /// Nothing said, or a byte now and then: the time is that of the whole message.
    #[tokio::test]
    async fn whoever_is_late_is_not_waited_for() {
        for (bytes, every) in [(&[][..], 0), (&[0; 40], 50)] {
            let error = met(bytes, Duration::from_millis(every)).await;
            let late = matches!(error, Error::Session(ProtocolError::Timeout { after }) if after.as_millis() == 300);
            assert!(late, "{error}");
        }
    }

    #[tokio::test]
    async fn whoever_speaks_of_something_else_is_none() {
        let error = met(b"GET / HTTP/1.1\r\n\r\n", Duration::ZERO).await;
        assert!(matches!(error, Error::Session(_) | Error::Peer(_, Misbehaviour::Hello)), "{error}");
    }
}
