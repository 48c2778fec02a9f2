//! Asking a broker how it fares, and about its jobs.

use std::ops::Range;
use std::time::Duration;

use crate::pipeline::{JobId, TaskId};
use crate::station::{Halt, OpenError, Patience, Station};
use crate::stop::StopHandle;
use crate::transport::Message;
use crate::wire::Kind;

use super::frames::{self, AtClient, read_at_client};
use super::json::{Codec, End};
use super::link::{ClientConfig, ClientError};
use super::protocol::{BrokerSays, ClientSays, JobView, StatusView};

/// The tasks of a job whose results were fetched, in order.
pub type Fetched = Vec<Range<TaskId>>;

/// Asks a broker, in the caller's thread.
pub struct Console {
    station: Station,
    message: Message,
    codec: Codec,
    within: Duration,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}

impl Console {
    /// Connects to a broker, now or later; each question waits for its answer for at most `within`.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used.
    pub fn connect(config: &ClientConfig, within: Duration) -> Result<Console, OpenError> {
        let station = Station::at_broker(&config.broker, config.codec, &config.socket)?;
        Ok(Console {
            station,
            message: Message::new(),
            codec: config.codec,
            within,
        })
    }

    /// How the broker fares.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn status(&mut self) -> Result<StatusView, ClientError> {
        self.ask(&ClientSays::Status {}, |says| match says {
            BrokerSays::Status { status } => Some(Ok(status)),
            _ => None,
        })
    }

    /// The jobs that the broker has, the newest first.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn jobs(&mut self) -> Result<Vec<JobView>, ClientError> {
        self.ask(&ClientSays::Jobs {}, |says| match says {
            BrokerSays::Jobs { jobs } => Some(Ok(jobs)),
            _ => None,
        })
    }

    /// How a job stands; `None` when there is none.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn job(&mut self, job: JobId) -> Result<Option<JobView>, ClientError> {
        let found = self.job_with_fetched(job)?;
        Ok(found.map(|(view, _)| view))
    }

    /// How a job stands, and of which tasks the results were fetched; `None` when there is none.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn job_with_fetched(
        &mut self,
        job: JobId,
    ) -> Result<Option<(JobView, Fetched)>, ClientError> {
        self.ask(&ClientSays::Job { job }, |says| match says {
            BrokerSays::Job { job, fetched } => Some(Ok(Some((job, fetched)))),
            BrokerSays::Unknown { job: about } if about == job => Some(Ok(None)),
            _ => None,
        })
    }

    /// Cancels a job; `false` when there is none.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn cancel(&mut self, job: JobId) -> Result<bool, ClientError> {
        self.ask(&ClientSays::Cancel { job }, |says| match says {
            BrokerSays::Cancelled { job: about } if about == job => Some(Ok(true)),
            BrokerSays::Unknown { job: about } if about == job => Some(Ok(false)),
            _ => None,
        })
    }

    /// A handle that ends blocked calls from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.station.stop.clone()
    }

    /// Asks, and waits for what `answer` takes for the answer.
    fn ask<T>(
        &mut self,
        question: &ClientSays,
        answer: impl Fn(BrokerSays) -> Option<Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let frame = frames::control(Kind::Client, question);
        let frame = self.codec.outgoing(End::Broker, frame);
        let sent = self.station.send(&[frame], self.within);
        sent.map_err(|halt| self.error(halt))?;
        let mut patience = Patience::new(self.within);
        loop {
            let received = self.station.receive(&mut self.message, &mut patience);
            received.map_err(|halt| self.error(halt))?;
            let Some(Ok(AtClient::Says(says))) = self.message.pop().map(read_at_client) else {
                continue;
            };
            if let Some(reason) = says.refuses_all() {
                return Err(ClientError::Failed(format!("the broker: {reason}")));
            }
            // Anything else is a heartbeat, or the answer to a question that was given up.
            if let Some(answered) = answer(says) {
                return answered;
            }
        }
    }

    fn error(&self, halt: Halt) -> ClientError {
        match halt {
            Halt::TimedOut => ClientError::TimedOut(self.station.socket.endpoint().clone()),
            Halt::Stopped => ClientError::Stopped,
            Halt::Failed(error) => ClientError::Failed(error.to_string()),
        }
    }
}
