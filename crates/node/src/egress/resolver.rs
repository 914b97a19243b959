//! Answers the names that a sandbox asks for.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::UdpSocket, task::JoinSet, time::sleep};

use super::{
    dns::{A, AAAA, Answer, Question},
    names::Found,
    way::Way,
};

/// The largest question: with the extensions that programs add (RFC 6891), well below this.
const QUESTION_BYTES_MAX: usize = 2_048;
/// Questions that wait for the machine's own resolver, of one sandbox. More get no answer, and are asked again.
const WAITING_MAX: usize = 32;
/// A socket that fails again and again must not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Answers on this socket for as long as the sandbox lives.
pub(super) async fn serve(socket: UdpSocket, way: Arc<Way>) {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    let mut bytes = [0; QUESTION_BYTES_MAX];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut bytes) => received,
            Some(_) = waiting.join_next(), if !waiting.is_empty() => continue,
        };
        let (length, asker) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "a question of a sandbox cannot be read");
                sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let Some(question) = Question::read(&bytes[..length]) else { continue };
        let answer = match way.find(&question.name) {
            Found::At(address) => Answer::Addresses(vec![address]),
            Found::No => Answer::NoName,
            Found::Full => Answer::Failed,
            Found::Outside if question.kind != A && question.kind != AAAA => Answer::Addresses(Vec::new()),
            Found::Outside if waiting.len() < WAITING_MAX => {
                let (socket, way, bytes) = (Arc::clone(&socket), Arc::clone(&way), bytes[..length].to_vec());
                waiting.spawn(async move {
                    let Some(question) = Question::read(&bytes) else { return };
                    let found = way.outside(&question.name).await;
                    let answer = found.map_or(Answer::NoName, Answer::Addresses);
                    tell(&socket, &question, &answer, asker).await;
                });
                continue;
            }
            Found::Outside => continue,
        };
        tell(&socket, &question, &answer, asker).await;
    }
}

async fn tell(socket: &UdpSocket, question: &Question<'_>, answer: &Answer, asker: SocketAddr) {
    // Whoever does not take it asks again.
    let _ = socket.send_to(&question.answer(answer), asker).await;
}
