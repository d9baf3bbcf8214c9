package nsq

import (
	"fmt"
	"time"
)

// The checks below return what nsqd would answer, as ErrProtocol: an answer
// that would cost the connection and fail its other publishes. nil means that
// nsqd has to be asked; its limits of size and delay are not known here.
// Source: TCP protocol, PUB, MPUB and DPUB.

func checkPublish(topic string, body []byte) error {
	if err := checkTopic("PUB", topic); err != nil {
		return err
	}
	return checkBody("PUB", body)
}

func checkDeferredPublish(topic string, delay time.Duration, body []byte) error {
	if err := checkTopic("DPUB", topic); err != nil {
		return err
	}
	if delay <= -time.Millisecond {
		return ErrProtocol{fmt.Sprintf("E_INVALID DPUB could not parse timeout %s", milliseconds(delay))}
	}
	return checkBody("DPUB", body)
}

func checkMultiPublish(topic string, bodies [][]byte) error {
	if !IsValidTopicName(topic) {
		// nsqd really names the code twice here.
		return ErrProtocol{fmt.Sprintf("E_BAD_TOPIC E_BAD_TOPIC MPUB topic name %q is not valid", topic)}
	}
	if len(bodies) == 0 {
		return ErrProtocol{"E_BAD_BODY MPUB invalid message count 0"}
	}
	for i, body := range bodies {
		if len(body) == 0 {
			return ErrProtocol{fmt.Sprintf("E_BAD_MESSAGE MPUB invalid message(%d) body size 0", i)}
		}
	}
	return nil
}

func checkTopic(command, topic string) error {
	if IsValidTopicName(topic) {
		return nil
	}
	return ErrProtocol{fmt.Sprintf("E_BAD_TOPIC %s topic name %q is not valid", command, topic)}
}

func checkBody(command string, body []byte) error {
	if len(body) > 0 {
		return nil
	}
	return ErrProtocol{fmt.Sprintf("E_BAD_MESSAGE %s invalid message body size 0", command)}
}
