package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsq-suite/nsq/bench/internal/load"
)

const (
	bodySize = 200 // bytes
	channel  = "guard"
	rdy      = 2500
)

// A session is one load on one daemon.
type session struct {
	ctx   context.Context
	nsqd  *load.NSQD
	topic string // of its own
	n     int    // messages

	// run is what a load leaves to be measured.
	run func() error

	conns []*load.Conn
	http  http.Transport
}

// dial returns a connection that is closed with the session.
func (s *session) dial() (*load.Conn, error) {
	c, err := s.nsqd.Dial(s.ctx, load.BigBuffers)
	if err == nil {
		s.conns = append(s.conns, c)
	}
	return c, err
}

func (s *session) close() {
	for _, c := range s.conns {
		c.Close()
	}
	s.http.CloseIdleConnections()
}

// of is what to publish, batch messages by each command.
func (s *session) of(batch int) load.Messages {
	return load.Messages{Topic: s.topic, Size: bodySize, Batch: batch}
}

// create creates the topic with its channel.
func (s *session) create() error { return s.nsqd.Create(s.ctx, s.topic, channel) }

// publish measures a producer that does not wait for each answer, with batch messages
// in a command.
func publish(batch int) func(*session) error {
	return func(s *session) error { return s.publish(s.of(batch)) }
}

// publishDeferred measures one whose messages are not due for long.
func publishDeferred(s *session) error {
	m := s.of(1)
	m.Defer = time.Hour
	return s.publish(m)
}

func (s *session) publish(m load.Messages) error {
	if err := s.create(); err != nil {
		return err
	}
	c, err := s.dial()
	s.run = func() error { return c.Publish(m, s.n, window(m.Batch)) }
	return err
}

// window is how many commands may wait for their answers.
func window(batch int) int {
	if batch > 1 {
		return 4
	}
	return 100
}

// clients is how many there are of those that wait for each answer. Alone each would
// wait mostly for its turn on a machine that has much else to do.
const clients = 8

// publishOneByOne measures producers that wait for each answer.
func publishOneByOne(s *session) error {
	if err := s.create(); err != nil {
		return err
	}
	producers := make([]*load.Conn, clients)
	for i := range producers {
		var err error
		if producers[i], err = s.dial(); err != nil {
			return err
		}
		// nsqd gives a producer an input buffer to keep when it has proved to be busy.
		if err = producers[i].Publish(s.of(1), 32, 1); err != nil {
			return err
		}
	}
	s.run = func() error {
		var g errgroup.Group
		for _, c := range producers {
			g.Go(func() error { return c.Publish(s.of(1), s.n/clients, 1) })
		}
		return g.Wait()
	}
	return nil
}

// publishHTTP measures clients that keep their connections.
func publishHTTP(s *session) error {
	s.http.MaxIdleConnsPerHost = clients
	s.run = func() error {
		var g errgroup.Group
		for range clients {
			g.Go(func() error {
				for range s.n / clients {
					if err := s.post(); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return g.Wait()
	}
	return s.create()
}

var body = bytes.Repeat([]byte{'x'}, bodySize)

// post publishes a message over HTTP.
func (s *session) post() error {
	url := "http://" + s.nsqd.HTTPAddr + "/pub?topic=" + s.topic
	request, err := http.NewRequestWithContext(s.ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	response, err := (&http.Client{Transport: &s.http}).Do(request)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("publish: %s", response.Status)
	}
	return nil
}

// drain measures one consumer of a backlog.
func drain(s *session) error {
	if err := s.publish(s.of(200)); err != nil {
		return err
	}
	if err := s.run(); err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	left := load.NewCountdown(s.n)
	s.run = func() error { return c.Consume(rdy, left, nil) }
	return c.Subscribe(s.topic, channel)
}

// through measures one producer, and one consumer of each channel at the same time.
func through(batch, channels int) func(*session) error {
	return func(s *session) error {
		consumers := make([]*load.Conn, channels)
		for i := range consumers {
			c, err := s.dial()
			if err != nil {
				return err
			}
			if err := c.Subscribe(s.topic, fmt.Sprint(channel, i)); err != nil {
				return err
			}
			consumers[i] = c
		}
		producer, err := s.dial()
		s.run = func() error {
			left := load.NewCountdown(s.n * channels)
			var g errgroup.Group
			for _, c := range consumers {
				g.Go(func() error { return c.Consume(rdy, left, nil) })
			}
			err := producer.Publish(s.of(batch), s.n, window(batch))
			if err != nil {
				left.Stop() // nobody need wait for the rest
			}
			return errors.Join(err, g.Wait())
		}
		return err
	}
}
