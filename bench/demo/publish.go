package main

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"github.com/nsq-suite/nsq/go-nsq"
)

// readLines returns every non-empty line of the files, without its newline.
func readLines(files []string) ([][]byte, error) {
	var lines [][]byte
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read lines: %w", err)
		}
		for line := range bytes.SplitSeq(content, []byte("\n")) {
			if len(line) > 0 {
				lines = append(lines, line)
			}
		}
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("read lines: none in %q", files)
	}
	return lines, nil
}

// A mix counts messages by the way they were published.
type mix struct {
	sync, async, multi, deferred int
	took                         time.Duration
}

func (m mix) total() int { return m.sync + m.async + m.multi + m.deferred }

func (m mix) String() string {
	return fmt.Sprintf("%d PUB, %d pipelined PUB, %d in MPUBs, %d DPUB; %s msg/s",
		m.sync, m.async, m.multi, m.deferred, thousands(perSecond(m.total(), m.took)))
}

// publish sends every line as one message, out of eight: two with Publish,
// two with PublishAsync, three with one MultiPublish, one with DeferredPublish
// and the given delay. It returns when nsqd has confirmed all of them.
func publish(producer *nsq.Producer, topic string, lines [][]byte, delay time.Duration) (mix, error) {
	var m mix
	start := time.Now()
	results := make(chan *nsq.ProducerTransaction, len(lines))
	for i := 0; i < len(lines); {
		var err error
		n := 1
		switch i % 8 {
		case 0, 1:
			err = producer.Publish(topic, lines[i])
			m.sync++
		case 2, 3:
			err = producer.PublishAsync(topic, lines[i], results)
			m.async++
		case 4:
			n = min(3, len(lines)-i)
			err = producer.MultiPublish(topic, lines[i:i+n])
			m.multi += n
		default:
			err = producer.DeferredPublish(topic, delay, lines[i])
			m.deferred++
		}
		if err != nil {
			return m, fmt.Errorf("publish line %d: %w", i+1, err)
		}
		i += n
	}
	for range m.async {
		if result := <-results; result.Error != nil {
			return m, fmt.Errorf("publish asynchronously: %w", result.Error)
		}
	}
	m.took = time.Since(start)
	return m, nil
}
