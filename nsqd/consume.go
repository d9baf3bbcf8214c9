package nsqd

import (
	"errors"
	"fmt"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

// maxFinRun bounds a run of FINs.
const maxFinRun = 256

// subscribe makes the client a consumer of a channel. Source: TCP protocol spec,
// SUB.
func (c *conn) subscribe(params [][]byte) error {
	if c.state.Load() != stateInit {
		return fatalError(protocol.CodeInvalid, "cannot SUB in current state", nil)
	}
	if c.settings.Load().heartbeat == 0 {
		return fatalError(protocol.CodeInvalid, "cannot SUB with heartbeats disabled", nil)
	}
	if len(params) < 3 {
		return fatalError(protocol.CodeInvalid, "SUB insufficient number of parameters", nil)
	}
	if !protocol.IsValidTopicName(params[1]) {
		return fatalError(protocol.CodeBadTopic, fmt.Sprintf("SUB topic name %q is not valid", params[1]), nil)
	}
	if !protocol.IsValidChannelName(params[2]) {
		return fatalError(protocol.CodeBadChannel, fmt.Sprintf("SUB channel name %q is not valid", params[2]), nil)
	}
	if err := c.authorize("SUB", string(params[1]), string(params[2])); err != nil {
		return err
	}
	con, err := c.join(string(params[1]), string(params[2]))
	if err != nil {
		return err
	}
	c.state.Store(stateSubscribed)
	c.consumer.Store(con)
	c.pump.call()
	return c.out.answer(protocol.FrameResponse, "OK")
}

// join finds or creates the channel and joins it. An ephemeral one may be on its
// way out at this instant, with its last consumer; then a new one is made.
func (c *conn) join(topicName, channelName string) (*consumer, error) {
	limit := c.svc.opts().MaxChannelConsumers
	for range 2 {
		topic, err := c.svc.topic(topicName)
		var channel *Channel
		if err == nil {
			channel, err = topic.GetChannel(channelName)
		}
		if err == nil {
			con := &consumer{conn: c, topic: topic, channel: channel}
			con.place, con.rank = channel.env.topology.place(c), channel.env.topology.rank(c)
			con.inFlight = newInFlight(c.svc.keeper, channel.expire)
			if err = channel.join(con, limit); err == nil {
				return con, nil
			}
		}
		switch {
		case errors.Is(err, errTooManyConsumers):
			return nil, fatalError(protocol.CodeSubFailed,
				fmt.Sprintf("SUB failed consumers for %s:%s exceeds limit of %d", topicName, channelName, limit), nil)
		case !errors.Is(err, errExiting):
			return nil, fatalError(protocol.CodeSubFailed, fmt.Sprintf("SUB failed %s", err), err)
		case !isEphemeral(topicName) && !isEphemeral(channelName):
			return nil, fatalError(protocol.CodeSubFailed, "SUB failed exiting", err)
		}
	}
	return nil, fatalError(protocol.CodeSubFailed, "SUB failed to deleted topic/channel", nil)
}

// rdy sets how many messages may be in flight to this consumer.
func (c *conn) rdy(params [][]byte) error {
	state := c.state.Load()
	if state == stateClosing {
		return nil // it may cross our CLOSE_WAIT
	}
	if state != stateSubscribed {
		return fatalError(protocol.CodeInvalid, "cannot RDY in current state", nil)
	}
	count := uint64(1)
	if len(params) > 1 {
		n, err := protocol.ParseDecimal(params[1])
		if errors.Is(err, protocol.ErrNotDecimal) {
			return fatalError(protocol.CodeInvalid, fmt.Sprintf("RDY could not parse count %s", params[1]), err)
		}
		count = n
	}
	if most := c.svc.opts().MaxRdyCount; count > uint64(most) {
		return fatalError(protocol.CodeInvalid, fmt.Sprintf("RDY count %d out of range 0-%d", count, most), nil)
	}
	con := c.consumer.Load()
	con.rdy.Store(int64(count))
	con.pump.call()
	return nil
}

// messageID checks what FIN, REQ and TOUCH have in common, in this order: state,
// number of parameters, form of the ID. Source: TCP protocol spec, FIN.
func (c *conn) messageID(command string, params [][]byte, need int) (MessageID, error) {
	if s := c.state.Load(); s != stateSubscribed && s != stateClosing {
		return MessageID{}, fatalError(protocol.CodeInvalid, "cannot "+command+" in current state", nil)
	}
	if len(params) < need {
		return MessageID{}, fatalError(protocol.CodeInvalid, command+" insufficient number of params", nil)
	}
	if len(params[1]) != protocol.MessageIDLength {
		return MessageID{}, fatalError(protocol.CodeInvalid, "invalid message ID", nil)
	}
	return MessageID(params[1]), nil
}

// fin adds to the run of FINs.
func (c *conn) fin(params [][]byte) error {
	if len(c.run.bodies) > 0 {
		if err := c.endRuns(); err != nil {
			return err
		}
	}
	id, err := c.messageID("FIN", params, 2)
	if err != nil {
		return err
	}
	c.fins = append(c.fins, id)
	for len(c.fins) < maxFinRun {
		id, ok := c.in.fin()
		if !ok {
			return nil
		}
		c.fins = append(c.fins, id)
	}
	return c.endRuns()
}

// endFinRun finishes the gathered messages and answers for those that are not in
// flight to this client.
func (c *conn) endFinRun() error {
	con := c.consumer.Load()
	if window := con.channel.latency; window == nil {
		c.missing = con.inFlight.finish(c.fins, c.missing[:0], &c.answered, nil)
	} else {
		c.publishTimes = c.publishTimes[:0]
		c.missing = con.inFlight.finish(c.fins, c.missing[:0], &c.answered, &c.publishTimes)
		window.record(c.publishTimes)
	}
	con.channel.queue.finish(&c.answered)
	c.finished.Add(uint64(len(c.fins) - len(c.missing)))
	c.fins = c.fins[:0]
	con.gainedRoom()
	for _, id := range c.missing {
		refused := c.notInFlight(protocol.CodeFinFailed, "FIN", id)
		c.log.Error(fmt.Sprintf("[%s] - %s", c.addr, refused))
		if err := c.out.answer(protocol.FrameError, refused.Error()); err != nil {
			return err
		}
	}
	return nil
}

// notInFlight is the answer to a message ID that this client may not answer.
func (c *conn) notInFlight(code, command string, id MessageID) *protocol.Error {
	con := c.consumer.Load()
	why := "ID not in flight"
	if con.channel.inFlightElsewhere(con.inFlight, id) {
		why = "client does not own message"
	}
	return &protocol.Error{Code: code, Desc: fmt.Sprintf("%s %s failed %s", command, id, why)}
}

// req puts a message back, at once or after a delay.
func (c *conn) req(params [][]byte) error {
	id, err := c.messageID("REQ", params, 3)
	if err != nil {
		return err
	}
	ms, err := protocol.ParseDecimal(params[2])
	if errors.Is(err, protocol.ErrNotDecimal) {
		return fatalError(protocol.CodeInvalid, fmt.Sprintf("REQ could not parse timeout %s", params[2]), err)
	}
	longest := c.svc.opts().MaxReqTimeout
	delay := longest
	if ms <= uint64(longest/time.Millisecond) {
		delay = time.Duration(ms) * time.Millisecond
	} else {
		c.log.Info("REQ delay above --max-req-timeout, clamped", "client", c.addr, "ms", ms, "max", longest)
	}
	con := c.consumer.Load()
	e, ok := con.inFlight.remove(id)
	if !ok {
		return c.notInFlight(protocol.CodeReqFailed, "REQ", id)
	}
	c.requeued.Add(1)
	con.channel.requeue(e, delay)
	con.gainedRoom()
	return nil
}

// touch gives a message more time.
func (c *conn) touch(params [][]byte) error {
	id, err := c.messageID("TOUCH", params, 2)
	if err != nil {
		return err
	}
	con := c.consumer.Load()
	if !con.inFlight.touch(id, c.settings.Load().msgTimeout, c.svc.opts().MaxMsgTimeout) {
		return c.notInFlight(protocol.CodeTouchFailed, "TOUCH", id)
	}
	return nil
}

// cls ends delivery; the client goes on answering what it has and then leaves.
func (c *conn) cls() error {
	if c.state.Load() != stateSubscribed {
		return fatalError(protocol.CodeInvalid, "cannot CLS in current state", nil)
	}
	con := c.consumer.Load()
	con.rdy.Store(0)
	c.state.Store(stateClosing)
	con.pump.call()
	con.pump.finishBurst() // with which it may still be busy
	return c.out.answer(protocol.FrameResponse, "CLOSE_WAIT")
}
