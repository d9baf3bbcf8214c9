package nsqlookupd

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"github.com/nsq-suite/nsq/internal/protocol"
)

var ok = []byte("OK")

// codeRegisterFailed begins the reply to a REGISTER beyond the limits.
const codeRegisterFailed = "E_REGISTER_FAILED"

// execute runs one command and returns its reply. Every error is fatal to the
// session.
func (p *peer) execute(command string, params [][]byte) (reply []byte, err error) {
	switch command {
	case "PING":
		p.ping()
		return ok, nil
	case "IDENTIFY":
		return aside(p.identify)
	case "REGISTER":
		topicName, channelName, err := p.names(command, params)
		if err != nil {
			return nil, err
		}
		return p.register(topicName, channelName)
	case "UNREGISTER":
		topicName, channelName, err := p.names(command, params)
		if err != nil {
			return nil, err
		}
		p.unregister(string(topicName), string(channelName))
		return ok, nil
	}
	return nil, invalid("invalid command " + command)
}

// aside runs f, which calls deep, on a goroutine of its own and waits for it: the
// stack of the peer would grow for it, and stay so for as long as the nsqd is
// connected.
func aside(f func() ([]byte, error)) (reply []byte, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		reply, err = f()
	}()
	<-done
	return reply, err
}

// ping answers before IDENTIFY too; after it, it is the sign of life that keeps
// the producer listed.
func (p *peer) ping() {
	p.counts.pings.Add(1)
	if p.producer == nil {
		return
	}
	now := time.Now().UnixNano()
	last := p.producer.lastUpdate.Swap(now)
	if p.log.Enabled(slog.LevelInfo) {
		p.info("CLIENT(", p.addr, "): pinged (last ping ", time.Duration(now-last).String(), ")")
	}
}

func (p *peer) identify() ([]byte, error) {
	if p.producer != nil {
		return nil, invalid("cannot IDENTIFY again")
	}
	if err := p.admission.Load().checkTransport(p.secure); err != nil {
		p.counts.unauthorized.Add(1)
		return nil, err
	}
	body, err := p.readBody()
	if err != nil {
		return nil, err
	}
	who, err := decodeIdentity(body)
	if err != nil {
		return nil, err
	}
	if err := p.admission.Load().checkSecret(body); err != nil {
		p.counts.unauthorized.Add(1)
		return nil, err
	}
	p.producer = newProducer(p.addr, who, time.Now().UnixNano())
	p.info("CLIENT(", p.addr, "): IDENTIFY Address:", who.BroadcastAddress, " TCP:", strconv.Itoa(who.TCPPort),
		" HTTP:", strconv.Itoa(who.HTTPPort), " Version:", who.Version)
	p.registry.add(p.producer)
	p.counts.identifies.Add(1)
	p.logDB("REGISTER", "client", "", "")
	return p.identifyReply, nil
}

func (p *peer) readBody() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(p.in, size[:]); err != nil {
		return nil, badBody("failed to read body size", err)
	}
	n := int32(binary.BigEndian.Uint32(size[:]))
	if n > maxIdentify {
		return nil, badBody(fmt.Sprintf("body too big %d > %d", n, maxIdentify), nil)
	}
	if n < 0 { // upstream's daemon dies of it
		return nil, badBody("failed to decode JSON body", protocol.ErrNegativeSize)
	}
	body, err := protocol.ReadBody(p.in, int(n))
	if err != nil {
		return nil, badBody("failed to read body", err)
	}
	return body, nil
}

// decodeIdentity reads the body of IDENTIFY and checks that it says enough.
func decodeIdentity(body []byte) (identity, error) {
	var who struct {
		identity
		RemoteAddress string `json:"remote_address"` // not used, and must be a string all the same
	}
	if err := json.Unmarshal(body, &who); err != nil {
		return identity{}, badBody("failed to decode JSON body", err)
	}
	if who.BroadcastAddress == "" || who.TCPPort == 0 || who.HTTPPort == 0 || who.Version == "" {
		return identity{}, badBody("missing fields", nil)
	}
	return who.identity, nil
}

// names checks the parameters of REGISTER and UNREGISTER. The channel is empty
// where there is none. Both are valid until the next line is read.
func (p *peer) names(command string, params [][]byte) (topicName, channelName []byte, err error) {
	if p.producer == nil {
		return nil, nil, invalid("client must IDENTIFY")
	}
	if len(params) == 0 {
		return nil, nil, invalid(command + " insufficient number of params")
	}
	topicName = params[0]
	if len(params) > 1 {
		channelName = params[1]
	}
	if !protocol.IsValidTopicName(topicName) {
		return nil, nil, &protocol.Error{Code: protocol.CodeBadTopic, Fatal: true,
			Desc: command + " topic name '" + string(topicName) + "' is not valid"}
	}
	if len(channelName) > 0 && !protocol.IsValidChannelName(channelName) {
		return nil, nil, &protocol.Error{Code: protocol.CodeBadChannel, Fatal: true,
			Desc: command + " channel name '" + string(channelName) + "' is not valid"}
	}
	return topicName, channelName, nil
}

// register refuses what is beyond the limits without ending the session, unlike
// all other errors: an nsqd that was disconnected for it would be listed for
// nothing any more, connect again, and get no further.
func (p *peer) register(topicName, channelName []byte) ([]byte, error) {
	p.counts.registers.Add(1)
	newInTopic, newInChannel, err := p.registry.register(p.producer, topicName, channelName)
	if err != nil {
		p.counts.refused.Add(1)
		if !p.full {
			p.full = true
			p.log.Log(slog.LevelWarn, "client(", p.addr, ") REGISTER ", string(topicName), " ", string(channelName), " is refused, and so may be more: ", err.Error())
		}
		return []byte(codeRegisterFailed + " REGISTER " + err.Error()), nil
	}
	if !p.log.Enabled(slog.LevelInfo) {
		return ok, nil
	}
	if newInChannel {
		p.logDB("REGISTER", "channel", string(topicName), string(channelName))
	}
	if newInTopic {
		p.logDB("REGISTER", "topic", string(topicName), "")
	}
	return ok, nil
}

func (p *peer) unregister(topicName, channelName string) {
	p.counts.unregisters.Add(1)
	if channelName != "" {
		if p.registry.unregisterChannel(p.producer, topicName, channelName) {
			p.logDB("UNREGISTER", "channel", topicName, channelName)
		}
		return
	}
	channels, wasInTopic := p.registry.unregisterTopic(p.producer, topicName)
	for _, name := range channels {
		p.log.Log(slog.LevelWarn, "client(", p.addr, ") unexpected UNREGISTER category:channel key:", topicName, " subkey:", name)
	}
	if wasInTopic {
		p.logDB("UNREGISTER", "topic", topicName, "")
	}
}

// forget removes the producer with all its registrations.
func (p *peer) forget() {
	var log func(topicName, channelName string)
	if p.log.Enabled(slog.LevelInfo) {
		log = func(topicName, channelName string) {
			category := "topic"
			if channelName != "" {
				category = "channel"
			}
			p.logDB("UNREGISTER", category, topicName, channelName)
		}
	}
	p.registry.disconnect(p.producer, log)
	p.logDB("UNREGISTER", "client", "", "")
}

func (p *peer) logDB(what, category, topicName, channelName string) {
	p.info("DB: client(", p.addr, ") ", what, " category:", category, " key:", topicName, " subkey:", channelName)
}

func invalid(desc string) error {
	return &protocol.Error{Code: protocol.CodeInvalid, Desc: desc, Fatal: true}
}

func badBody(desc string, cause error) error {
	return &protocol.Error{Code: protocol.CodeBadBody, Desc: "IDENTIFY " + desc, Fatal: true, Err: cause}
}
